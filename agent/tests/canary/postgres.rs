//! PostgreSQL: start-up, passwords, statements, parameters, rows, copies, notices, errors.

use crate::talk::Talk;

fn message(kind: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let len = (body.len() as u32 + 4).to_be_bytes();
    [&[kind], &len[..], body].concat()
}

fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0"))
}

fn done(tag: &str) -> Vec<u8> {
    [message(b'C', format!("{tag}\0")), message(b'Z', "I")].concat()
}

/// A row of one column.
fn row(value: &str) -> Vec<u8> {
    let len = (value.len() as u32).to_be_bytes();
    message(b'D', [&[0, 1], &len[..], value.as_bytes()].concat())
}

fn startup(parameters: &str) -> Vec<u8> {
    let body = [&[0, 3, 0, 0], parameters.as_bytes(), b"\0"].concat();
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

fn connected(t: &mut Talk) {
    t.client(startup("user\0app\0database\0shop\0"));
    t.server(
        [
            message(b'R', [0; 4]),
            message(b'S', "server_version\x0015.1\0"),
            message(b'Z', "I"),
        ]
        .concat(),
    );
}

pub(crate) fn talks() -> Vec<Talk> {
    vec![
        clear(),
        scram(),
        statements(),
        credentials(),
        extended(),
        copies(),
        asides(),
    ]
}

fn clear() -> Talk {
    let mut talk = Talk::new("postgres password", 5432);
    let t = &mut talk;
    let (options, name) = (t.body("options"), t.body("application_name"));
    t.client(startup(&format!(
        "user\0app\0database\0shop\0options\0-c app.token={options}\0application_name\0{name}\0"
    )));
    t.server(message(b'R', [0, 0, 0, 3]));
    let password = t.credential("password in the clear");
    t.client(message(b'p', format!("{password}\0")));
    let value = t.body("parameter of the session");
    let mut welcome = message(b'R', [0; 4]);
    welcome.extend(message(b'S', format!("application_name\0{value}\0")));
    welcome.extend(message(b'K', [1; 8]));
    welcome.extend(message(b'Z', "I"));
    t.server(welcome);
    t.client(query("SELECT 1")).server(done("SELECT 1"));
    talk
}

fn scram() -> Talk {
    let mut talk = Talk::new("postgres scram", 5432);
    let t = &mut talk;
    t.client(startup("user\0app\0database\0shop\0"));
    t.server(message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0"));
    let (first, challenge, last) = (
        t.credential("first message"),
        t.credential("challenge"),
        t.credential("proof"),
    );
    let response = format!("n,,n=,r={first}");
    let len = (response.len() as u32).to_be_bytes();
    t.client(message(
        b'p',
        [b"SCRAM-SHA-256\0", &len[..], response.as_bytes()].concat(),
    ));
    t.server(message(
        b'R',
        [
            &[0, 0, 0, 11][..],
            format!("r={challenge},s=QQ==,i=4096").as_bytes(),
        ]
        .concat(),
    ));
    t.client(message(b'p', format!("c=biws,r=x,p={last}")));
    let text = t.body("refusal");
    t.server(message(
        b'E',
        format!("SFATAL\0C28P01\0Mpassword authentication failed for user \"{text}\"\0\0"),
    ));
    talk
}

fn statements() -> Talk {
    let mut talk = Talk::new("postgres statements", 5432);
    let t = &mut talk;
    connected(t);
    for (before, behind) in [
        ("SELECT a FROM t WHERE b = '", "'"),
        ("SELECT a FROM t WHERE b = 'it''s ", "'"),
        ("SELECT a FROM t WHERE b = E'it\\'s ", "'"),
        ("SELECT a FROM t WHERE b = 'C:\\' AND c = '", "'"),
        ("SELECT a FROM t WHERE b = U&'", "'"),
        ("SELECT a FROM t WHERE b = $$", "$$"),
        ("SELECT a FROM t WHERE b = $tag$ $$", "$$ $tag$"),
        ("SELECT a FROM t WHERE b = date '", "'"),
        ("SELECT a /* ", " */ FROM t"),
        ("SELECT a /* /* x */ ", " */ FROM t"),
        ("SELECT a FROM t -- ", "\n"),
        ("SELECT a FROM t; SELECT '", "'"),
        ("NOTIFY news, '", "'"),
        ("SELECT pg_notify('news', '", "')"),
        ("EXECUTE s('", "')"),
        ("DO $$ BEGIN PERFORM '", "'; END $$"),
        ("COPY t FROM PROGRAM 'curl -u joe:", " http://h/'"),
        ("SET app.user = '", "'"),
        ("COMMENT ON TABLE t IS '", "'"),
        ("INSERT INTO t VALUES ('a'\n'", "')"),
        ("PREPARE s AS SELECT '", "'"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS '", "'"),
        ("nonsense '", ""),
    ] {
        let secret = t.literal(&format!("{before}…{behind}"));
        t.client(query(&format!("{before}{secret}{behind}")))
            .server(done("SELECT 1"));
    }
    for before in [
        "SELECT ",
        "SELECT -",
        "SELECT a FROM t WHERE b = 1.",
        "SELECT a FROM t OFFSET ",
    ] {
        let secret = t.number(before);
        t.client(query(&format!("{before}{secret}")))
            .server(done("SELECT 1"));
    }
    talk
}

fn credentials() -> Talk {
    let mut talk = Talk::new("postgres credentials", 5432);
    let t = &mut talk;
    connected(t);
    for (before, behind) in [
        ("CREATE ROLE joe LOGIN PASSWORD '", "'"),
        ("ALTER USER joe WITH ENCRYPTED PASSWORD '", "'"),
        ("ALTER ROLE joe PASSWORD $$", "$$"),
        (
            "CREATE USER MAPPING FOR joe SERVER s OPTIONS (user 'joe', password '",
            "')",
        ),
        ("SELECT dblink_connect('host=h password=", "')"),
        (
            "CREATE SUBSCRIPTION s CONNECTION 'host=h password=",
            "' PUBLICATION p",
        ),
        ("SELECT pgp_sym_decrypt(a, '", "') FROM t"),
        ("SELECT crypt('", "', gen_salt('bf'))"),
        ("SET app.password = ", ""),
        ("SET app.password TO ", ""),
        ("SET SESSION app.client_secret = ", ""),
        ("ALTER ROLE joe SET app.secret TO ", ""),
        (
            "SELECT * FROM dblink('postgresql://joe:",
            "@h/db', 'q') AS t(a int)",
        ),
        ("SELECT set_config('app.password', '", "', false)"),
        ("UPDATE users SET password = '", "' WHERE id = 1"),
    ] {
        let secret = t.credential(&format!("{before}…{behind}"));
        t.client(query(&format!("{before}{secret}{behind}")))
            .server(done("SELECT 1"));
    }
    talk
}

fn extended() -> Talk {
    let mut talk = Talk::new("postgres extended", 5432);
    let t = &mut talk;
    connected(t);
    let (literal, value) = (t.literal("literal of Parse"), t.body("parameter of Bind"));
    let mut bind = b"\0\0\0\0\0\x01\0\0\0\x10".to_vec();
    bind.extend(value.as_bytes());
    bind.extend([0, 0]);
    let said = [
        message(
            b'P',
            format!("\0SELECT a FROM t WHERE b = $1 AND c = '{literal}'\0\0\0"),
        ),
        message(b'B', bind),
        message(b'D', "P\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', ""),
    ];
    t.client(said.concat());
    let (cell, text) = (t.body("value of a row"), t.body("DETAIL"));
    let columns = [&b"\0\x01a\0"[..], &[0; 18]].concat();
    let answer = [
        message(b'1', ""),
        message(b'2', ""),
        message(b'T', columns),
        row(&cell),
        done("SELECT 1"),
    ];
    t.server(answer.concat());
    let argument = t.body("argument of a function call");
    let mut call = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 16];
    call.extend(argument.as_bytes());
    call.extend([0, 0]);
    t.client(message(b'F', call));
    let result = t.body("result of a function call");
    t.server(
        [
            message(b'V', [&[0, 0, 0, 16], result.as_bytes()].concat()),
            message(b'Z', "I"),
        ]
        .concat(),
    );
    t.client(query("INSERT INTO t VALUES (1)"));
    let (main, hint, place) = (
        t.body("text of an error"),
        t.body("hint"),
        t.body("query of an error"),
    );
    t.server([
        message(b'E', format!(
            "SERROR\0C23505\0M{main}\0DKey (a)=({text}) already exists.\0H{hint}\0W{place}\0q{place}\0\0"
        )),
        message(b'Z', "I"),
    ].concat());
    talk
}

fn copies() -> Talk {
    let mut talk = Talk::new("postgres copies", 5432);
    let t = &mut talk;
    connected(t);
    let (sent, failure) = (t.body("copied in"), t.body("why a copy failed"));
    t.client(query("COPY t FROM STDIN"))
        .server(message(b'G', b"\0\0\x01\0\0"));
    t.client([message(b'd', format!("1\t{sent}\n")), message(b'c', "")].concat());
    t.server(done("COPY 1"));
    t.client(query("COPY t FROM STDIN"))
        .server(message(b'G', b"\0\0\x01\0\0"));
    t.client(message(b'f', format!("{failure}\0")));
    t.server(
        [
            message(b'E', format!("SERROR\0C57014\0MCOPY failed: {failure}\0\0")),
            message(b'Z', "I"),
        ]
        .concat(),
    );
    let got = t.body("copied out");
    t.client(query("COPY t TO STDOUT"));
    t.server(
        [
            message(b'H', b"\0\0\x01\0\0"),
            message(b'd', format!("{got}\n")),
            message(b'c', ""),
            done("COPY 1"),
        ]
        .concat(),
    );
    talk
}

fn asides() -> Talk {
    let mut talk = Talk::new("postgres asides", 5432);
    let t = &mut talk;
    connected(t);
    let (payload, notice, tag) = (
        t.body("payload of a notification"),
        t.body("notice"),
        t.body("tag"),
    );
    t.client(query("LISTEN news")).server(done("LISTEN"));
    t.server(message(b'A', format!("\0\0\0\x01news\0{payload}\0")));
    t.client(query("SELECT 1"));
    t.server(
        [
            message(b'N', format!("SNOTICE\0C00000\0M{notice}\0\0")),
            done(&tag),
        ]
        .concat(),
    );
    talk
}

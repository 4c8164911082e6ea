//! MySQL: logins, statements, parameters, rows, errors.

use crate::talk::Talk;

/// `CLIENT_PROTOCOL_41`, `CLIENT_LOCAL_FILES`, `CLIENT_SECURE_CONNECTION`, `CLIENT_MULTI_STATEMENTS`,
/// `CLIENT_PLUGIN_AUTH`, `CLIENT_CONNECT_ATTRS`, `CLIENT_DEPRECATE_EOF`.
const CAPABILITIES: u32 = 1 << 9 | 1 << 7 | 1 << 15 | 1 << 16 | 1 << 19 | 1 << 20 | 1 << 24;

fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes[3] = seq;
    bytes.extend(payload);
    bytes
}

fn command(number: u8, rest: impl AsRef<[u8]>) -> Vec<u8> {
    packet(0, &[&[number], rest.as_ref()].concat())
}

fn query(text: &str) -> Vec<u8> {
    command(0x03, text)
}

/// Text with its length in front.
fn counted(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

fn ok(seq: u8) -> Vec<u8> {
    packet(seq, &[0, 0, 0, 2, 0, 0, 0])
}

fn error(seq: u8, number: u16, text: &str) -> Vec<u8> {
    let head = [&[0xff], &number.to_le_bytes()[..], b"#23000"].concat();
    packet(seq, &[&head, text.as_bytes()].concat())
}

/// A result set of one column and one row.
fn result(value: &str) -> Vec<u8> {
    let mut column = b"\x03def\x04shop\x01t\x01t\x01c\x01c\x0c".to_vec();
    column.extend([0x21, 0, 10, 0, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
    let end = [0xfe, 0, 0, 2, 0, 0, 0];
    [
        packet(1, &[1]),
        packet(2, &column),
        packet(3, &counted(value)),
        packet(4, &end),
    ]
    .concat()
}

fn greeting() -> Vec<u8> {
    let mut payload = b"\x0a8.0.36\0\x07\0\0\0saltsalt\0".to_vec();
    payload.extend([0xff, 0xff, 8, 2, 0, 0xff, 0xff, 21]);
    payload.extend([0; 10]);
    payload.extend(b"saltsaltsalt\0caching_sha2_password\0");
    packet(0, &payload)
}

/// A login as `app` to `shop` with this answer to the salt, and this attribute.
fn login(answer: &str, attribute: &str) -> Vec<u8> {
    let capabilities = CAPABILITIES | 1 << 3;
    let mut payload = capabilities.to_le_bytes().to_vec();
    payload.extend([0, 0, 0, 1, 8]);
    payload.extend([0; 23]);
    payload.extend(b"app\0");
    payload.extend(counted(answer));
    payload.extend(b"shop\0caching_sha2_password\0");
    let attributes = [counted("program_name"), counted(attribute)].concat();
    payload.push(attributes.len() as u8);
    payload.extend(attributes);
    packet(1, &payload)
}

fn connected(t: &mut Talk) {
    t.server(greeting())
        .client(login("0123456789", "client"))
        .server(ok(2));
}

pub(crate) fn talks() -> Vec<Talk> {
    vec![logins(), statements(), credentials(), prepared(), files()]
}

fn logins() -> Talk {
    let mut talk = Talk::new("mysql logins", 3306);
    let t = &mut talk;
    let (answer, attribute) = (
        t.credential("answer to the salt"),
        t.body("connection attribute"),
    );
    t.server(greeting()).client(login(&answer, &attribute));
    t.server(packet(2, b"\xfemysql_clear_password\0salt\0"));
    let password = t.credential("password in the clear");
    t.client(packet(3, format!("{password}\0").as_bytes()));
    t.server(packet(4, &[1, 4]));
    let password = t.credential("password after a full authentication");
    t.client(packet(5, format!("{password}\0").as_bytes()));
    t.server(ok(6));
    let answer = t.credential("change of the user");
    t.client(command(
        0x11,
        [
            &b"joe\0"[..],
            &counted(&answer),
            b"shop\0\x21\0mysql_native_password\0",
        ]
        .concat(),
    ));
    t.server(ok(1));
    let (user, password) = (
        t.credential("user of a replica"),
        t.credential("password of a replica"),
    );
    let replica = [
        &[1, 0, 0, 0][..],
        &counted("host"),
        &counted(&user),
        &counted(&password),
        &[0; 10],
    ]
    .concat();
    t.client(command(0x15, replica));
    let text = t.body("text of a refusal");
    t.server(error(1, 1045, &format!("Access denied for user '{text}'")));
    talk
}

fn statements() -> Talk {
    let mut talk = Talk::new("mysql statements", 3306);
    let t = &mut talk;
    connected(t);
    for (before, behind) in [
        ("SELECT a FROM t WHERE b = '", "'"),
        ("SELECT a FROM t WHERE b = \"", "\""),
        ("SELECT a FROM t WHERE b = 'it''s ", "'"),
        ("SELECT a FROM t WHERE b = 'it\\'s ", "' AND c = 'd'"),
        ("SELECT a FROM t WHERE b = 'a\\\\' AND c = '", "'"),
        ("SELECT a FROM t WHERE b = _utf8mb4'", "'"),
        ("SELECT a FROM t WHERE b = N'", "'"),
        ("SELECT a FROM t /* ", " */ WHERE b = 1"),
        ("SELECT a FROM t # ", "\nWHERE b = 1"),
        ("SELECT a FROM t -- ", "\nWHERE b = 1"),
        ("SELECT a FROM t -- x\r", "\nWHERE b = 1"),
        ("SELECT a FROM t -- x\r ' ", "\nWHERE b = 'c'"),
        ("SELECT /*!50000 '", "' */ a FROM t"),
        ("INSERT INTO t (a, b) VALUES (1, '", "')"),
        ("UPDATE t SET a = '", "' WHERE b = 2"),
        ("CALL p('", "')"),
        ("SET @a = '", "'"),
        ("DO SLEEP(0); SELECT '", "'"),
        ("not sql at all '", ""),
        ("SELECT 'a' '", "'"),
        ("EXECUTE IMMEDIATE '", "'"),
        ("LOAD DATA INFILE '", "' INTO TABLE t"),
        ("KILL QUERY '", "'"),
    ] {
        let secret = t.literal(&format!("{before}…{behind}"));
        t.client(query(&format!("{before}{secret}{behind}")))
            .server(ok(1));
    }
    for before in [
        "SELECT ",
        "SELECT -",
        "SELECT 0x",
        "SELECT 1.",
        "SELECT a FROM t LIMIT ",
    ] {
        let secret = t.number(before);
        t.client(query(&format!("{before}{secret}"))).server(ok(1));
    }
    let value = t.body("value of a row");
    t.client(query("SELECT a FROM t")).server(result(&value));
    let text = t.body("duplicate entry");
    t.client(query("INSERT INTO t VALUES (1)"));
    t.server(error(
        1,
        1062,
        &format!("Duplicate entry '{text}' for key 'PRIMARY'"),
    ));
    let text = t.body("part of a syntax error");
    t.client(query("SELEC"));
    t.server(error(
        1,
        1064,
        &format!("You have an error near '{text}' at line 1"),
    ));
    let text = t.body("information of an OK");
    t.client(query("UPDATE t SET a = 1"));
    t.server(packet(
        1,
        &[&[0, 1, 0, 2, 0, 0, 0][..], &counted(&text)].concat(),
    ));
    talk
}

fn credentials() -> Talk {
    let mut talk = Talk::new("mysql credentials", 3306);
    let t = &mut talk;
    connected(t);
    for (before, behind) in [
        ("CREATE USER joe IDENTIFIED BY '", "'"),
        (
            "ALTER USER joe IDENTIFIED WITH mysql_native_password AS '",
            "'",
        ),
        ("SET PASSWORD FOR joe = '", "'"),
        ("SET PASSWORD = PASSWORD('", "')"),
        ("GRANT ALL ON *.* TO joe IDENTIFIED BY '", "'"),
        ("CHANGE MASTER TO MASTER_HOST='h', MASTER_PASSWORD='", "'"),
        ("CHANGE REPLICATION SOURCE TO SOURCE_PASSWORD='", "'"),
        ("START SLAVE USER='u' PASSWORD='", "'"),
        (
            "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (USER 'u', PASSWORD '",
            "')",
        ),
        ("SELECT AES_DECRYPT(a, '", "') FROM t"),
        ("SELECT a FROM users WHERE password = '", "'"),
        ("INSERT INTO users SET passwd = '", "'"),
    ] {
        let secret = t.credential(&format!("{before}…{behind}"));
        t.client(query(&format!("{before}{secret}{behind}")))
            .server(ok(1));
    }
    talk
}

fn prepared() -> Talk {
    let mut talk = Talk::new("mysql prepared", 3306);
    let t = &mut talk;
    connected(t);
    let secret = t.literal("literal in a prepared statement");
    t.client(command(
        0x16,
        format!("SELECT a FROM t WHERE b = ? AND c = '{secret}'"),
    ));
    let mut answer = packet(1, &[0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]);
    answer.extend(packet(
        2,
        b"\x03def\0\0\0\x01?\0\x0c\x3f\0\0\0\0\0\xfd\x80\0\0\0\0",
    ));
    t.server(answer);
    let long = t.body("long data");
    t.client(command(
        0x18,
        [&[1, 0, 0, 0, 0, 0], long.as_bytes()].concat(),
    ));
    let value = t.body("parameter");
    let head = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0xfd, 0];
    t.client(command(0x17, [&head[..], &counted(&value)].concat()));
    let text = t.body("error of an execution");
    t.server(error(
        1,
        1062,
        &format!("Duplicate entry '{text}' for key 'a'"),
    ));
    talk
}

fn files() -> Talk {
    let mut talk = Talk::new("mysql files", 3306);
    let t = &mut talk;
    connected(t);
    t.client(query("LOAD DATA LOCAL INFILE 'a.csv' INTO TABLE t"));
    let name = t.body("name of a local file");
    t.server(packet(1, &[&[0xfb], name.as_bytes()].concat()));
    let content = t.body("content of a local file");
    t.client(packet(2, format!("1,{content}\n").as_bytes()))
        .client(packet(3, b""));
    t.server(ok(4));
    talk
}

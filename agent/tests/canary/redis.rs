//! Redis: passwords, values, scripts, messages.

use crate::talk::Talk;

/// A command as an array of bulk strings.
fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes += &format!("${}\r\n{word}\r\n", word.len());
    }
    bytes.into_bytes()
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

pub(crate) fn talks() -> Vec<Talk> {
    vec![
        logins(),
        values(),
        scripts(),
        inline(),
        messages(),
        monitor(),
    ]
}

fn logins() -> Talk {
    let mut talk = Talk::new("redis logins", 6379);
    let t = &mut talk;
    let password = t.credential("AUTH password");
    t.client(command(&["AUTH", &password])).server("+OK\r\n");
    let (user, password) = (
        t.credential("AUTH user"),
        t.credential("AUTH user's password"),
    );
    t.client(command(&["auth", &user, &password]))
        .server("+OK\r\n");
    let (user, password) = (t.credential("HELLO user"), t.credential("HELLO password"));
    t.client(command(&["HELLO", "3", "AUTH", &user, &password]));
    t.server("%1\r\n$5\r\nproto\r\n:3\r\n");
    let password = t.credential("HELLO without version");
    t.client(command(&["HELLO", "AUTH", "u", &password]));
    t.server("-NOPROTO unsupported protocol version\r\n");
    for name in ["requirepass", "masterauth", "tls-key-file-pass"] {
        let password = t.credential(&format!("CONFIG SET {name}"));
        t.client(command(&["CONFIG", "SET", name, &password]))
            .server("+OK\r\n");
    }
    let password = t.credential("CONFIG GET requirepass");
    t.client(command(&["CONFIG", "GET", "requirepass"]));
    t.server(format!("*2\r\n$11\r\nrequirepass\r\n{}", bulk(&password)));
    let password = t.credential("ACL SETUSER");
    t.client(command(&[
        "ACL",
        "SETUSER",
        "joe",
        "on",
        &format!(">{password}"),
    ]));
    t.server("+OK\r\n");
    let password = t.credential("MIGRATE AUTH");
    t.client(command(&[
        "MIGRATE", "10.0.0.9", "6379", "key", "0", "50", "AUTH", &password,
    ]));
    t.server("+OK\r\n");
    let password = t.credential("MIGRATE AUTH2");
    t.client(command(&[
        "MIGRATE", "10.0.0.9", "6379", "", "0", "50", "AUTH2", "joe", &password, "KEYS", "a",
    ]));
    t.server("+NOKEY\r\n");
    let password = t.credential("SENTINEL SET auth-pass");
    t.client(command(&[
        "SENTINEL",
        "SET",
        "main",
        "auth-pass",
        &password,
    ]))
    .server("+OK\r\n");
    let text = t.body("error of AUTH");
    t.client(command(&["AUTH", "wrong"]));
    t.server(format!("-WRONGPASS invalid {text} or disabled\r\n"));
    talk
}

fn values() -> Talk {
    let mut talk = Talk::new("redis values", 6379);
    let t = &mut talk;
    let value = t.body("SET value");
    t.client(command(&["SET", "key", &value, "EX", "10"]))
        .server("+OK\r\n");
    let value = t.body("GET reply");
    t.client(command(&["GET", "key"])).server(bulk(&value));
    let (field, value) = (t.body("HSET field"), t.body("HSET value"));
    t.client(command(&["HSET", "hash", &field, &value]))
        .server(":1\r\n");
    let value = t.body("MSET second value");
    t.client(command(&["MSET", "a", "1", "b", &value]))
        .server("+OK\r\n");
    let value = t.body("XADD value");
    t.client(command(&["XADD", "stream", "*", "field", &value]))
        .server("$3\r\n1-0\r\n");
    let value = t.body("PUBLISH payload");
    t.client(command(&["PUBLISH", "news", &value]))
        .server(":0\r\n");
    let (value, text) = (t.body("value in MULTI"), t.body("error in EXEC"));
    t.client(command(&["MULTI"])).server("+OK\r\n");
    t.client(command(&["SET", "key", &value]))
        .server("+QUEUED\r\n");
    t.client(command(&["EXEC"]))
        .server(format!("*1\r\n-ERR {text}\r\n"));
    let text = t.body("error text");
    t.client(command(&["INCR", "key"]))
        .server(format!("-ERR value {text} is not an integer\r\n"));
    let text = t.body("error without a code");
    t.client(command(&["INCR", "key"]))
        .server(format!("-{text}\r\n"));
    let (value, field) = (t.body("map in a reply"), t.body("verbatim string"));
    t.client(command(&["HELLO", "3"]))
        .server("%1\r\n$5\r\nproto\r\n:3\r\n");
    t.client(command(&["HGETALL", "hash"]));
    t.server(format!(
        "%2\r\n+{value}\r\n=20\r\ntxt:{field}\r\n#t\r\n_\r\n"
    ));
    let text = t.body("blob error");
    t.client(command(&["GET", "key"]))
        .server(format!("!{}\r\nERR {text}\r\n", text.len() + 4));
    talk
}

fn scripts() -> Talk {
    let mut talk = Talk::new("redis scripts", 6379);
    let t = &mut talk;
    let (script, key, argument) = (
        t.literal("EVAL script"),
        t.body("EVAL key"),
        t.body("EVAL argument"),
    );
    let script = format!("return redis.call('SET', KEYS[1], '{script}')");
    t.client(command(&["EVAL", &script, "1", &key, &argument]))
        .server("+OK\r\n");
    let argument = t.body("EVALSHA argument");
    t.client(command(&[
        "EVALSHA",
        "e0e1f9fabfc9d4800c877a703b823ac0578ff8db",
        "0",
        &argument,
    ]));
    let text = t.body("error of a script");
    t.server(format!("-ERR user_script:1: {text} script: e0e1\r\n"));
    let argument = t.body("FCALL argument");
    t.client(command(&["FCALL", "f", "0", &argument]))
        .server("+OK\r\n");
    for words in [["SCRIPT", "LOAD"], ["FUNCTION", "LOAD"]] {
        let script = t.body(&words.join(" "));
        t.client(command(&[words[0], words[1], &script]))
            .server("$2\r\nok\r\n");
    }
    let text = t.literal("ECHO");
    t.client(command(&["ECHO", &text])).server(bulk(&text));
    let text = t.literal("PING");
    t.client(command(&["PING", &text])).server(bulk(&text));
    talk
}

fn inline() -> Talk {
    let mut talk = Talk::new("redis inline", 6379);
    let t = &mut talk;
    t.client("PING\r\n").server("+PONG\r\n");
    let password = t.credential("inline AUTH");
    t.client(format!("AUTH {password}\r\n")).server("+OK\r\n");
    let password = t.credential("inline AUTH in quotes");
    t.client(format!("AUTH \"{password}\"\r\n"))
        .server("+OK\r\n");
    let password = t.credential("inline AUTH with unbalanced quotes");
    t.client(format!("AUTH \"{password}\r\n"));
    t.server("-ERR Protocol error: unbalanced quotes in request\r\n");
    let value = t.body("inline SET");
    t.client(format!("SET key {value}\r\n")).server("+OK\r\n");
    let value = t.body("inline CONFIG SET requirepass");
    t.client(format!("CONFIG SET requirepass {value}\r\n"))
        .server("+OK\r\n");
    talk
}

fn messages() -> Talk {
    let mut talk = Talk::new("redis messages", 6379);
    let t = &mut talk;
    t.client(command(&["SUBSCRIBE", "news"]))
        .server("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
    let message = t.body("message of a channel");
    t.server(format!(
        "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n{}",
        bulk(&message)
    ));
    let text = t.literal("PING of a subscriber");
    t.client(command(&["PING", &text]))
        .server(format!("*2\r\n$4\r\npong\r\n{}", bulk(&text)));
    talk
}

fn monitor() -> Talk {
    let mut talk = Talk::new("redis monitor", 6379);
    let t = &mut talk;
    t.client(command(&["MONITOR"])).server("+OK\r\n");
    let value = t.body("line of MONITOR");
    t.server(format!(
        "+1700000000.1 [0 127.0.0.1:5000] \"set\" \"key\" \"{value}\"\r\n"
    ));
    let password = t.body("AUTH in a line of MONITOR");
    t.server(format!(
        "+1700000000.2 [0 127.0.0.1:5000] \"auth\" \"{password}\"\r\n"
    ));
    talk
}

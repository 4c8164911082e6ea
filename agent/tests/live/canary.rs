//! Secrets in what real clients say to real servers, and none of them in what the program puts out.

use std::process::{Child, Command, Stdio};

use crate::lab::Lab;
use crate::receiver::{Receiver, Speaks};
use crate::secrets::{Class, Search, Talk};
use crate::watch::{Folder, WIRESPAN, Watcher, capture};

/// What clients say, with secrets; a session lets its server begin without them.
struct Sayings {
    talk: Talk,
    commands: Vec<(String, Vec<String>)>,
}

impl Sayings {
    fn say(&mut self, program: &str, arguments: &[&str]) {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned());
        self.commands
            .push((program.to_owned(), arguments.collect()));
    }

    fn credential(&mut self, name: &str) -> String {
        self.talk.credential(name)
    }

    fn literal(&mut self, name: &str) -> String {
        self.talk.literal(name)
    }

    fn body(&mut self, name: &str) -> String {
        self.talk.body(name)
    }

    /// Everything, to servers of `lab`.
    fn to(lab: &Lab) -> Self {
        let mut sayings = Self {
            talk: Talk::new("live", 0),
            commands: Vec::new(),
        };
        sayings.http(lab.told("nginx"));
        sayings.redis(lab.told("redis"));
        sayings.postgres(lab.told("postgres"), lab.told("postgres-programs"));
        sayings.mariadb(lab.told("mariadb"));
        sayings
    }

    fn http(&mut self, port: &str) {
        let url = format!("http://127.0.0.1:{port}/api/x");
        for name in [
            "Authorization: Bearer ",
            "Cookie: a=",
            "X-Api-Key: ",
            "Proxy-Authorization: Basic ",
            "Host: joe:",
        ] {
            let secret = self.credential(name);
            let at = if name.starts_with("Host") { "@h" } else { "" };
            self.say("curl", &["-sS", "-H", &format!("{name}{secret}{at}"), &url]);
        }
        let password = self.credential("password of curl");
        self.say(
            "curl",
            &["-sS", "--digest", "-u", &format!("joe:{password}"), &url],
        );
        for parameter in [
            "?token=",
            "?a=1&new_password=",
            ";jsessionid=",
            "?X-Amz-Signature=",
        ] {
            let secret = self.literal(parameter);
            self.say("curl", &["-sS", &format!("{url}{parameter}{secret}")]);
        }
        let (form, proxied) = (self.body("form"), self.credential("userinfo by a proxy"));
        self.say("curl", &["-sS", "-d", &format!("password={form}"), &url]);
        let proxy = format!("http://127.0.0.1:{port}");
        self.say(
            "curl",
            &[
                "-sS",
                "-x",
                &proxy,
                &format!("http://{proxied}@example.com/"),
            ],
        );
    }

    fn redis(&mut self, port: &str) {
        let words = |this: &mut Self, words: &[&str]| {
            this.say("redis-cli", &[&["-p", port], words].concat())
        };
        let secret = self.credential("password of redis-cli");
        words(self, &["--no-auth-warning", "-a", &secret, "PING"]);
        let secret = self.credential("AUTH");
        words(self, &["AUTH", "joe", &secret]);
        let secret = self.credential("HELLO");
        words(self, &["HELLO", "3", "AUTH", "joe", &secret]);
        let secret = self.credential("CONFIG SET masterauth");
        words(self, &["CONFIG", "SET", "masterauth", &secret]);
        words(self, &["CONFIG", "GET", "masterauth"]);
        let secret = self.credential("ACL SETUSER");
        words(self, &["ACL", "SETUSER", "joe", &format!(">{secret}")]);
        let secret = self.body("redis value");
        words(self, &["SET", "key", &secret]);
        words(self, &["GET", "key"]);
        words(self, &["INCR", "key"]);
        let secret = self.literal("script");
        words(
            self,
            &[
                "EVAL",
                &format!("return redis.error_reply('{secret}')"),
                "0",
            ],
        );
        let secret = self.body("message");
        words(self, &["PUBLISH", "news", &secret]);
    }

    fn postgres(&mut self, port: &str, programs: &str) {
        let psql = format!("{programs}/psql");
        let place = ["-X", "-q", "-h", "127.0.0.1", "-p", port];
        let secret = self.credential("password of psql");
        let login = format!("user=joe dbname=shop password={secret}");
        self.say(&psql, &[&place[..], &["-c", "SELECT 1", &login]].concat());
        let as_admin = [&place[..], &["-U", "admin", "shop"]].concat();
        let (table, value) = (
            format!("canary_{}", std::process::id()),
            self.literal("value of a row"),
        );
        let mut statements = vec![
            format!("CREATE TABLE {table} (a text PRIMARY KEY)"),
            format!("INSERT INTO {table} VALUES ('{value}')"),
            format!("INSERT INTO {table} VALUES ('{value}')"),
            format!("TABLE {table}"),
            format!("COPY {table} TO STDOUT"),
        ];
        for (before, behind) in [
            ("ALTER ROLE joe PASSWORD '", "'"),
            ("SELECT $tag$", "$tag$ -- and comments"),
            ("SET app.password = ", ""),
            ("NOTIFY news, '", "'"),
            ("DO $$ BEGIN RAISE EXCEPTION '", "'; END $$"),
            ("SELECT 1 /* ", " */"),
        ] {
            let class = match before.contains("PASSWORD") || before.contains("password") {
                true => Class::Credential,
                false => Class::Literal,
            };
            let secret = self.talk.secret(class, before);
            statements.push(format!("{before}{secret}{behind}"));
        }
        statements.push(format!("DROP TABLE {table}"));
        for statement in statements {
            self.say(&psql, &[&as_admin[..], &["-c", &statement]].concat());
        }
    }

    fn mariadb(&mut self, port: &str) {
        let place = [
            "--no-defaults",
            "--ssl=0",
            "-h",
            "127.0.0.1",
            "-P",
            port,
            "-u",
            "joe",
        ];
        let wrong = self.credential("wrong password of mariadb");
        self.say(
            "mariadb",
            &[&place[..], &[&format!("-p{wrong}"), "-e", "SELECT 1"]].concat(),
        );
        let as_joe = [&place[..], &["-pCANARY-joe", "shop", "-e"]].concat();
        let (value, parameter) = (
            self.literal("mariadb value"),
            self.literal("mariadb prepared"),
        );
        let user = self.credential("IDENTIFIED BY");
        for statement in [
            "CREATE OR REPLACE TABLE canary (a varchar(99) PRIMARY KEY)".to_owned(),
            format!("INSERT INTO canary VALUES (\"{value}\")"),
            format!("INSERT INTO canary VALUES ('{value}')"),
            "SELECT a FROM canary".to_owned(),
            format!("CREATE OR REPLACE USER canary IDENTIFIED BY '{user}'"),
            "DROP USER canary".to_owned(),
            format!("EXECUTE IMMEDIATE 'SELECT ?' USING '{parameter}'"),
            "DROP TABLE canary".to_owned(),
        ] {
            self.say("mariadb", &[&as_joe[..], &[&statement]].concat());
        }
    }

    /// Says it all. Many of these end in an error, as they should.
    fn run(&self) {
        for (program, arguments) in &self.commands {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null());
            let output = command.output();
            output.unwrap_or_else(|error| panic!("{program}: {error}"));
        }
    }
}

fn assert_none(search: &Search, output: &[u8], what: &str) {
    let found = search.found(output);
    let show = found
        .iter()
        .map(|(slot, around)| format!("{}: {around}", slot.name));
    assert!(
        found.is_empty(),
        "{what}: {}",
        show.collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn no_secret_of_a_real_client_is_in_any_output() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx", "redis", "postgres", "mariadb"]) else {
        return;
    };
    let sayings = Sayings::to(&lab);
    assert!(sayings.talk.slots.len() >= 30);
    let said = sayings.commands.iter().flat_map(|(_, arguments)| arguments);
    let said = said.map(String::as_str).collect::<Vec<_>>().join("\n");
    for slot in &sayings.talk.slots {
        assert!(said.contains(&slot.secret), "{} is not said", slot.name);
    }
    let search = Search::new(&sayings.talk.slots);
    let ports = ["nginx", "redis", "postgres", "mariadb"]
        .map(|name| lab.told(name))
        .join(",");
    let observe = ["--no-tls", "--buffer", "64", "--port", &ports];

    for format in ["jsonl", "table", "otlp-json"] {
        let watcher = Watcher::start(&[&["tail", "-o", format], &observe[..]].concat());
        sayings.run();
        let (output, said) = watcher.end_with_output();
        let lines = output.split(|byte| *byte == b'\n').count();
        assert!(lines > 80, "{format}: only {lines} lines");
        assert_none(&search, &output, format);
        assert_none(&search, said.join("\n").as_bytes(), "standard error");
    }

    let literals = |slot: &&crate::secrets::Slot| slot.class == Class::Literal;
    let (literals, others): (Vec<_>, Vec<_>) = sayings.talk.slots.iter().partition(literals);
    let watcher =
        Watcher::start(&[&["tail", "-o", "jsonl", "--redact", "off"], &observe[..]].concat());
    sayings.run();
    let (output, _) = watcher.end_with_output();
    assert_eq!(
        Search::new(literals.iter().copied()).found(&output).len(),
        literals.len()
    );
    let shown: Vec<String> = Search::new(others)
        .found(&output)
        .into_iter()
        .map(|(slot, _)| slot.name.clone())
        .collect();
    assert_eq!(shown, Vec::<String>::new());
}

#[test]
fn no_secret_of_a_real_client_is_in_metrics_and_spans() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx", "redis", "postgres", "mariadb"]) else {
        return;
    };
    let sayings = Sayings::to(&lab);
    let search = Search::new(&sayings.talk.slots);
    let ports = ["nginx", "redis", "postgres", "mariadb"]
        .map(|name| lab.told(name))
        .join(",");
    let receiver = Receiver::start(Speaks::Http);
    let otlp = receiver.url();
    let arguments = [
        "agent",
        "--no-tls",
        "--body-sizes",
        "--port",
        &ports,
        "--otlp",
        &otlp,
    ];
    let variables = [
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("WIRESPAN_LISTEN", "127.0.0.1:0"),
    ];
    let watcher = Watcher::start_with(&arguments, &variables);
    let page = watcher.hear("wirespan: metrics at ");
    sayings.run();
    receiver.wait_for("spans", |received| received.spans() > 80);
    for accept in [
        "text/plain",
        "application/openmetrics-text",
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
    ] {
        let header = format!("Accept: {accept}");
        let page = Command::new("curl")
            .args(["-sS", "-H", &header, &page])
            .output();
        let page = page.expect("curl").stdout;
        assert!(page.len() > 10_000, "a page");
        assert_none(&search, &page, accept);
    }
    let (_, said) = watcher.end_with_output();
    assert_none(&search, said.join("\n").as_bytes(), "standard error");
    receiver.received(|received| {
        assert!(!received.metrics.is_empty());
        assert_none(&search, format!("{received:?}").as_bytes(), "OTLP");
    });
}

/// A process with secrets where everybody looks: in its command line and its environment.
struct Careless(Child);

impl Careless {
    fn start(argument: &str, variable: &str) -> Self {
        let child = Command::new("sh")
            .args(["-c", "read line", "sh", "--password", argument])
            .env("PGPASSWORD", variable)
            .env("OTEL_EXPORTER_OTLP_HEADERS", format!("api-key={variable}"))
            .stdin(Stdio::piped())
            .spawn();
        Self(child.expect("sh"))
    }
}

impl Drop for Careless {
    fn drop(&mut self) {
        // It reads the end of its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn whoever_asks_hears_no_secret() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx", "redis", "postgres", "mariadb"]) else {
        return;
    };
    let mut sayings = Sayings::to(&lab);
    let (argument, variable) = (
        sayings.credential("argument"),
        sayings.credential("variable"),
    );
    let search = Search::new(&sayings.talk.slots);
    let careless = Careless::start(&argument, &variable);
    let ports = ["nginx", "redis", "postgres", "mariadb"].map(|name| lab.told(name));
    let folder = Folder::new("canary");
    let socket = folder.file("wirespan.sock");
    let at = socket.to_str().expect("UTF-8");
    let with = ["--no-tls", "--port", &ports.join(","), "--socket", at];
    let watcher = Watcher::start_with(
        &[&["agent"], &with[..]].concat(),
        &[
            ("WIRESPAN_LISTEN", "127.0.0.1:0"),
            ("OTEL_EXPORTER_OTLP_HEADERS", &format!("api-key={variable}")),
        ],
    );
    watcher.hear("wirespan: metrics at ");
    let url = |path: &str| format!("http://agent{path}");
    let flows = Command::new("curl")
        .args(["-sS", "-N", "--unix-socket", at, &url("/flows?follow=1")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl");
    sayings.run();
    for path in ["/status", "/config", "/connections", "/top", "/metrics"] {
        let answer = Command::new("curl")
            .args(["-sS", "--unix-socket", at, &url(path)])
            .output();
        let answer = answer.expect("curl").stdout;
        assert!(path == "/connections" || answer.len() > 100, "{path}");
        assert_none(&search, &answer, path);
    }
    let pid = careless.0.id().to_string();
    for arguments in [
        &["status", "--socket", at][..],
        &["explain", "--duration", "100ms", &pid],
        &[
            "explain",
            "--duration",
            "100ms",
            "--json",
            &format!(":{}", ports[0]),
        ],
        &["doctor", "--targets"],
    ] {
        let output = Command::new(WIRESPAN).args(arguments).output();
        let output = output.expect("wirespan");
        assert!(!output.stdout.is_empty(), "{arguments:?}");
        for stream in [&output.stdout, &output.stderr] {
            assert_none(&search, stream, &format!("{arguments:?}"));
        }
    }
    let (_, said) = watcher.end_with_output();
    assert_none(&search, said.join("\n").as_bytes(), "standard error");
    let flows = flows.wait_with_output().expect("curl").stdout;
    assert!(flows.split(|byte| *byte == b'\n').count() > 80, "flows");
    assert_none(&search, &flows, "/flows");
}

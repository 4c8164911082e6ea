//! What a user says, wherever it is said.

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use serde_json::json;

use super::document::{self, HIDDEN};
use super::keys::{self, Kind};
use super::load::{self, Effective};
use super::{Layer, Running, Sources, exporting};
use crate::cli::Cli;

/// A file of a test's own, gone with it.
struct Written(PathBuf);

impl Written {
    fn new(name: &str, text: &str) -> Self {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("wirespan-config-{}-{name}", std::process::id()));
        fs::write(&path, text).expect("written");
        Self(path)
    }

    fn fault(&self) -> String {
        let fault = load::read(&self.0).expect_err("it is wrong").to_string();
        let name = self.0.display().to_string();
        fault.replace(&name, "file")
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn sources(file: Option<&Path>, variables: &[(&str, &str)], flags: &[&str]) -> Sources {
    let keys = keys::keys();
    let find = |name: &str| {
        let found = variables.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let line = [&["wirespan", "agent"], flags].concat();
    let matches = Cli::command().try_get_matches_from(line).expect("flags");
    let (_, matches) = matches.subcommand().expect("a command");
    Sources {
        file: file.map(Path::to_path_buf),
        environment: Layer::environment(&keys, &find).expect("variables"),
        flags: Layer::flags(&keys, matches),
        keys,
    }
}

fn loaded(file: Option<&Path>, variables: &[(&str, &str)], flags: &[&str]) -> Effective {
    sources(file, variables, flags).load().expect("correct")
}

fn origin(sources: &Sources, path: &str) -> (String, String) {
    let effective = sources.load().expect("correct");
    let key = sources.keys.iter().find(|key| key.path == path);
    let key = key.expect("a key");
    let value = effective.value(key).to_string();
    (value, effective.origin(key).to_owned())
}

fn registry() -> wirespan_engine::Registry {
    crate::protocols().build().expect("different names")
}

#[test]
fn flags_come_before_variables_before_the_file_before_defaults() {
    let file = Written::new(
        "order.yaml",
        "metrics: {max_series: 7, listen: '127.0.0.1:1', series_ttl: 7m}\n",
    );
    let variables = [
        ("WIRESPAN_MAX_SERIES", "8"),
        ("WIRESPAN_LISTEN", "127.0.0.1:2"),
    ];
    let flags = ["--listen", "127.0.0.1:3"];
    let sources = sources(Some(&file.0), &variables, &flags);
    let said = |path| origin(&sources, path);
    let both = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    let name = file.0.display().to_string();
    assert_eq!(said("metrics.listen"), both("\"127.0.0.1:3\"", "--listen"));
    assert_eq!(said("metrics.max_series"), both("8", "WIRESPAN_MAX_SERIES"));
    assert_eq!(said("metrics.series_ttl"), both("\"7m\"", &name));
    assert_eq!(said("spans.keep"), both("1.0", "default"));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_key_that_was_meant() {
    for (name, text, expected) in [
        (
            "a.yaml",
            "observe:\n  pids: [1]\n  prots: [80]\n",
            "file:3: unknown key observe.prots; did you mean observe.ports?",
        ),
        (
            "b.yaml",
            "\nobserv:\n  pids: [1]\n",
            "file:2: unknown key observ; did you mean observe?",
        ),
        (
            "c.toml",
            "[otlp.traces]\nendpont = \"http://c:4317\"\n",
            "file:2: unknown key otlp.traces.endpont; did you mean otlp.traces.endpoint?",
        ),
        (
            "d.yaml",
            "keep: 0.1\n",
            "file:1: unknown key keep; did you mean spans.keep?",
        ),
    ] {
        assert_eq!(Written::new(name, text).fault(), expected, "{text}");
    }
    let fault = Written::new("e.yaml", "log:\n  zzzzzzzz: 1\n").fault();
    assert_eq!(fault, "file:2: unknown key log.zzzzzzzz; known are level");
}

#[test]
fn a_wrong_value_is_refused_with_its_line() {
    for (name, text, line, words) in [
        ("f.yaml", "observe:\n  ports: [http]\n", 2, "0 to 65535"),
        ("g.yaml", "log: [\n", 1, "bracket"),
        (
            "h.yaml",
            "\nfilter:\n  slower: 1h\n",
            3,
            "number with a unit",
        ),
        (
            "i.yaml",
            "observe:\n  networks:\n    - 10.0.0.0/33\n",
            3,
            "network such as",
        ),
        ("j.toml", "[spans]\n\nkeep = 2.0\n", 3, "0 to 1"),
        ("k.yaml", "routes:\n  patterns: [users]\n", 2, "users"),
        ("l.yaml", "log:\n  level: loud\n", 2, "loud"),
        ("m.yaml", "metrics:\n  listen: here\n", 2, "127.0.0.1:9464"),
        (
            "n.yaml",
            "\nobserve: 80\n",
            2,
            "observe: expected a section",
        ),
    ] {
        let fault = Written::new(name, text).fault();
        assert!(
            fault.starts_with(&format!("file:{line}: ")),
            "{text}{fault}"
        );
        assert!(fault.contains(words), "{text}{fault}");
    }
}

#[test]
fn a_wrong_variable_is_refused_by_its_name() {
    for (name, value) in [
        ("WIRESPAN_KEEP_SPANS", "2"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("WIRESPAN_OBSERVE_PORTS", "80,http"),
        ("WIRESPAN_BODY_SIZES", "perhaps"),
    ] {
        let loaded = sources(None, &[(name, value)], &[]).load();
        let fault = loaded.expect_err(name).to_string();
        assert!(fault.starts_with(&format!("{name}: ")), "{fault}");
    }
}

#[test]
fn a_file_that_says_nothing_changes_nothing() {
    for text in ["", "# nothing\n", "{}\n"] {
        let file = Written::new("empty.yaml", text);
        let tree = loaded(Some(&file.0), &[], &[]).tree;
        assert_eq!(tree, loaded(None, &[], &[]).tree, "{text:?}");
    }
}

#[test]
fn toml_says_the_same_as_yaml() {
    let yaml = "filter:\n  status: [404, 5xx]\n  slower: 100ms\notlp:\n  headers: {a: 1}\n";
    let toml = "[filter]\nstatus = [404, '5xx']\nslower = '100ms'\n[otlp.headers]\na = '1'\n";
    let yaml = Written::new("same.yaml", yaml);
    let toml = Written::new("same.toml", toml);
    let [yaml, toml] = [&yaml, &toml].map(|file| loaded(Some(&file.0), &[], &[]).tree);
    assert_eq!(yaml, toml);
    assert_eq!(yaml["filter"]["status"], serde_json::json!(["404", "5xx"]));
}

#[test]
fn the_variables_of_opentelemetry_are_keys() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%20c"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_SERVICE_NAME", "shop"),
    ];
    let file = Written::new(
        "otel.yaml",
        "otlp: {endpoint: 'http://d:4317', protocol: http/json}\n",
    );
    let sources = sources(Some(&file.0), &variables, &[]);
    let config = exporting(&sources, &sources.load().expect("correct")).expect("correct");
    assert!(config.traces.is_none());
    let metrics = config.metrics.expect("metrics");
    assert_eq!(metrics.endpoint, "http://c:4317/v1/metrics");
    assert_eq!(metrics.timeout.as_millis(), 2500);
    assert_eq!(metrics.headers, [("a".to_owned(), "b c".to_owned())]);
    assert_eq!(config.resource.service_name.as_deref(), Some("shop"));
}

#[test]
fn a_flag_is_nearer_than_the_variable_of_a_signal() {
    let variables = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4317")];
    let sources = sources(None, &variables, &["--otlp", "http://c:4317"]);
    let config = exporting(&sources, &sources.load().expect("correct")).expect("correct");
    assert_eq!(config.traces.expect("spans").endpoint, "http://c:4317");
}

#[test]
fn every_flag_of_agent_is_a_key_with_the_same_default() {
    let mut program = Cli::command();
    program.build();
    let agent = program.find_subcommand("agent").expect("agent");
    let mut keys = keys::keys();
    for flag in agent.get_arguments() {
        let Some(name) = flag.get_long().filter(|_| !flag.is_global_set()) else {
            continue;
        };
        if matches!(name, "config" | "duration" | "help") {
            continue;
        }
        let at = keys
            .iter()
            .position(|key| key.flag.as_deref() == Some(name));
        let key = keys.remove(at.unwrap_or_else(|| panic!("--{name} is no key")));
        let default = flag
            .get_default_values()
            .first()
            .and_then(|text| text.to_str());
        let expected = match (&key.default, key.kind) {
            (serde_json::Value::Bool(true), Kind::Boolean) if default == Some("on") => continue,
            // What a switch switches is not the case without it.
            (serde_json::Value::Bool(is), Kind::Boolean) => {
                assert_eq!(*is, name.starts_with("no-"), "--{name}");
                continue;
            }
            (serde_json::Value::String(text), _) => text.clone(),
            (serde_json::Value::Null, _) => {
                assert_eq!(default, None, "--{name}");
                continue;
            }
            (value, Kind::Number) => value.to_string().trim_end_matches(".0").to_owned(),
            _ => continue,
        };
        assert_eq!(default, Some(expected.as_str()), "--{name}");
    }
    let left: Vec<_> = keys.iter().filter_map(|key| key.flag.as_ref()).collect();
    assert!(left.is_empty(), "no such flags: {left:?}");
}

#[test]
fn every_flag_sets_its_key() {
    let flags = [
        "--pid=1,2",
        "--process=a",
        "--exe=/a",
        "--cgroup=/",
        "--netns=/proc/self/ns/net",
        "--port=80,81",
        "--ip=10.0.0.0/8",
        "--external",
        "--no-tls",
        "--hooks=kprobe",
        "--buffer=16",
        "--workers=3",
        "--proto=http",
        "--status=5xx",
        "--errors",
        "--slower=1s",
        "--path=/a,b/*",
        "--trace-id=4bf9",
        "--route=/x/{id},/y",
        "--route-heuristic=off",
        "--redact=full",
        "--secret-key=customer",
        "--listen=none",
        "--max-series=5",
        "--series-ttl=1s",
        "--body-sizes",
        "--keep-spans=0.5",
        "--duplicate-spans",
        "--own-client-ids",
        "--otlp=http://c:4317",
        "--flush=1s",
        "--socket=none",
        "--records=/tmp/x",
        "--kubernetes=none",
    ];
    let sources = sources(None, &[], &flags);
    let effective = sources.load().expect("correct");
    for key in sources.keys.iter().filter(|key| key.flag.is_some()) {
        let flag = format!("--{}", key.flag.as_deref().unwrap_or_default());
        assert_eq!(effective.origin(key), flag, "{}", key.path);
        assert_ne!(*effective.value(key), key.default, "{}", key.path);
    }
    assert_eq!(effective.config.filter.paths, ["/a,b/*"]);
    assert_eq!(effective.config.observe.ports, [80, 81]);
    assert_eq!(effective.config.routes.patterns, ["/x/{id}", "/y"]);
}

#[test]
fn what_is_not_there_is_refused_by_its_key() {
    for (flags, words) in [
        (
            ["--proto", "htpp"],
            "filter.protocols: there is no protocol htpp",
        ),
        (["--series-ttl", "1s"], ""),
    ] {
        let sources = sources(None, &[], &flags);
        let effective = sources.load().expect("correct");
        match Running::of(&sources, &effective, &registry()) {
            Ok(_) => assert!(words.is_empty(), "{flags:?}"),
            Err(fault) => assert!(fault.to_string().starts_with(words), "{fault}"),
        }
    }
    let file = Written::new(
        "cgroup.yaml",
        "observe: {cgroups: [/sys/fs/cgroup/of-nobody]}\n",
    );
    let sources = sources(Some(&file.0), &[], &[]);
    let effective = sources.load().expect("correct");
    let fault = Running::of(&sources, &effective, &registry()).expect_err("nothing is there");
    let fault = fault.to_string();
    assert!(
        fault.starts_with("observe.cgroups: /sys/fs/cgroup/of-nobody: "),
        "{fault}"
    );
}

#[test]
fn what_counts_at_the_start_only_stays_as_it_is() {
    let before = "observe: {ports: [80], buffer: 4}\n";
    let after = "observe: {ports: [81], buffer: 16}\nmetrics: {max_series: 5}\n";
    let file = Written::new("keeping.yaml", before);
    let sources = sources(Some(&file.0), &[], &[]);
    let current = sources.load().expect("correct");
    fs::write(&file.0, after).expect("written");
    let loaded = sources.load().expect("correct");
    let (next, kept) = loaded.keeping(&current, &sources.keys).expect("correct");
    assert_eq!(kept, ["metrics.max_series", "observe.buffer"]);
    assert_eq!(next.changed(&current, &sources.keys), ["observe.ports"]);
    assert_eq!(next.config.observe.ports, [81]);
    assert_eq!(next.config.observe.buffer, 4);
    let key = sources
        .keys
        .iter()
        .find(|key| key.path == "metrics.max_series");
    assert_eq!(next.origin(key.expect("a key")), "default");
}

#[test]
fn a_patch_says_what_changes_until_null_takes_it_back() {
    let sources = sources(None, &[], &["--port=80"]);
    let patched = |layer: &Layer, patch| layer.patched(&patch, &sources.keys, "PUT");
    let none = Layer::default();
    let first = patched(
        &none,
        json!({"observe": {"ports": [443]}, "filter": {"errors": true}}),
    );
    let first = first.expect("correct");
    let effective = sources.load_under(&first).expect("correct");
    assert_eq!(
        effective.config.observe.ports,
        [443],
        "it comes before flags"
    );
    assert!(effective.config.filter.errors);
    let taken_back = patched(&first, json!({"observe": null})).expect("a section");
    assert!(
        !taken_back
            .values
            .iter()
            .any(|said| said.path.starts_with("observe."))
    );
    let second = patched(&first, json!({"observe": {"ports": null}})).expect("correct");
    let effective = sources.load_under(&second).expect("correct");
    assert_eq!(effective.config.observe.ports, [80]);
    assert!(effective.config.filter.errors, "it was not named");

    for (patch, why) in [
        (
            json!({"observe": {"buffer": 16}}),
            "observe.buffer: counts at the start only",
        ),
        (
            json!({"observe": {"prots": []}}),
            "did you mean observe.ports?",
        ),
        (
            json!({"observe": 5}),
            "observe: expected a section with keys",
        ),
        (json!([]), "expected an object"),
        (json!({}), "no key"),
    ] {
        let refused = patched(&none, patch).expect_err(why);
        assert!(refused.contains(why), "{refused}");
    }
    let wrong = patched(&none, json!({"spans": {"keep": 2}})).expect("a key");
    let fault = sources
        .load_under(&wrong)
        .expect_err("no share")
        .to_string();
    assert!(fault.starts_with("PUT: "), "{fault}");
    let wrong = patched(&none, json!({"observe": {"ports": [70_000]}})).expect("a key");
    let fault = sources.load_under(&wrong).expect_err("no port").to_string();
    let expected =
        "PUT: observe.ports[0]: invalid value: integer `70000`, expected a number from 0 to 65535";
    assert_eq!(fault, expected);
}

#[test]
fn credentials_are_not_shown() {
    let variables = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3same")];
    let sources = sources(None, &variables, &[]);
    let effective = sources.load().expect("correct");
    let text = document::yaml(&sources.keys, Some(&effective));
    assert!(text.contains(HIDDEN) && !text.contains("s3same"), "{text}");
}

#[test]
fn all_keys_as_a_file_are_the_defaults() {
    let text = document::yaml(&keys::keys(), None);
    let keys: Vec<String> = keys::keys().into_iter().map(|key| key.path).collect();
    // Keys are commented out, and so is what they mean: a key is a word before a colon.
    let uncommented = text.lines().map(|line| {
        let (indent, words) = line.split_once("# ").unwrap_or((line, ""));
        let name = words.split(':').next().unwrap_or_default();
        let is_key = keys.iter().any(|key| key.rsplit('.').next() == Some(name));
        match is_key && words.contains(": ") {
            true => format!("{indent}{words}"),
            false => line.to_owned(),
        }
    });
    let text = uncommented.collect::<Vec<_>>().join("\n");
    let file = Written::new("all.yaml", &text);
    let sources = sources(Some(&file.0), &[], &[]);
    let effective = sources.load().expect("correct");
    assert_eq!(effective.tree, loaded(None, &[], &[]).tree);
    let name = file.0.display().to_string();
    for key in &sources.keys {
        assert_eq!(effective.origin(key), name, "{}", key.path);
    }
}

#[test]
fn a_file_of_which_all_keys_are_commented_out_says_nothing() {
    let file = Written::new("none.yaml", &document::yaml(&keys::keys(), None));
    let sources = sources(Some(&file.0), &[], &["--port=80"]);
    let effective = sources.load().expect("correct");
    assert_eq!(effective.tree, loaded(None, &[], &["--port=80"]).tree);
    for key in &sources.keys {
        assert_ne!(effective.origin(key), file.0.display().to_string());
    }
}

#[test]
fn the_example_is_correct() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wirespan.example.yaml");
    let sources = sources(Some(&example), &[], &[]);
    let effective = sources.load().expect("correct");
    Running::of(&sources, &effective, &registry()).expect("it names nothing that is not there");
    exporting(&sources, &effective).expect("correct");
    assert_ne!(effective.tree, loaded(None, &[], &[]).tree);
}

/// `UPDATE_GOLDEN=1` rewrites the page.
#[test]
fn the_reference_page_is_the_schema() {
    const MARK: &str = "<!-- from here on generated -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIG.md");
    let page = fs::read_to_string(&path).expect("a page");
    let (words, tables) = page.split_once(MARK).expect("a mark");
    let expected = document::reference(&keys::keys());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, format!("{words}{MARK}{expected}")).expect("written");
    } else {
        assert!(
            tables == expected,
            "docs/CONFIG.md is not as the keys are: UPDATE_GOLDEN=1"
        );
    }
}

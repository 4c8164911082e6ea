//! `wirespan status`, and how an agent is asked: HTTP/1.0 at its Unix socket.

use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::cli::StatusArgs;
use crate::exit::Exit;
use crate::terminal::Terminal;
use crate::units;

/// How long an agent may take for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer.
const MOST: u64 = 64 << 20;

/// Where the socket of an agent is unless it was told otherwise; `None` where there is no place for
/// it.
pub(crate) fn default_socket() -> Option<PathBuf> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if is_root {
        return Some(PathBuf::from("/run/wirespan.sock"));
    }
    let folder = env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty())?;
    Some(Path::new(&folder).join("wirespan.sock"))
}

/// Asks for a page; its status code and what it says.
pub(crate) fn get(socket: &Path, path: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Of that version, an answer ends where the connection does.
    write!(stream, "GET {path} HTTP/1.0\r\nhost: wirespan\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer)?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "no agent answers there");
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(wrong)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(wrong)?, answer.split_off(end + 4)))
}

/// Runs `status`.
pub(crate) fn status(args: &StatusArgs, terminal: &Terminal) -> Exit {
    match told(args) {
        Ok(text) => terminal.data(text.as_bytes()).err().unwrap_or(Exit::Done),
        Err(message) => {
            terminal.error(&message);
            Exit::Usage
        }
    }
}

fn told(args: &StatusArgs) -> Result<String, String> {
    let socket = args.socket.clone().or_else(default_socket);
    let socket = socket.ok_or("give --socket: XDG_RUNTIME_DIR is not set")?;
    let at = socket.display();
    let answer = get(&socket, "/status");
    let (code, body) = answer.map_err(|error| {
        format!("cannot ask an agent at {at}: {error}; is one running, with admin.socket there?")
    })?;
    let text = String::from_utf8_lossy(&body).into_owned();
    if code != 200 {
        return Err(format!("{at}: {code} {}", text.trim_end()));
    }
    if args.json {
        return Ok(text);
    }
    let status = serde_json::from_str(&text);
    let status: Value = status.map_err(|error| format!("{at}: {error}"))?;
    Ok(render(&status))
}

/// For people: who it is, how its configuration is, and all figures.
fn render(status: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let seconds = |value: &Value| units::Duration::seconds(value.as_u64().unwrap_or(0));
    let ready = match status["why_not_ready"].as_str() {
        Some(why) => format!("not ready: {why}"),
        None => "ready".to_owned(),
    };
    let config = &status["config"];
    let mut text = format!(
        "wirespan {}, process {}, {} hooks, for {}: {ready}\nconfiguration: {}, changed {} times, refused {}\n",
        word(&status["version"]),
        status["pid"],
        word(&status["hooks"]),
        seconds(&status["seconds"]),
        config["file"].as_str().unwrap_or("no file"),
        config["applied"],
        config["refused"],
    );
    if let Some(fault) = config["fault"].as_str() {
        text.push_str(&format!("  not changed: {fault}\n"));
    }
    for key in config["at_next_start"].as_array().into_iter().flatten() {
        text.push_str(&format!("  at the next start: {}\n", word(key)));
    }
    text.push_str(&kubernetes(&status["kubernetes"]));
    text.push('\n');
    for (name, value) in status["figures"].as_object().into_iter().flatten() {
        match value.as_object() {
            None => text.push_str(&line(name, value)),
            Some(parts) => {
                for (part, value) in parts {
                    text.push_str(&line(&format!("{name} {part}"), value));
                }
            }
        }
    }
    text
}

/// How it is with the pods; nothing where nobody is asked for them.
fn kubernetes(of: &Value) -> String {
    let word = |key: &str| of[key].as_str().unwrap_or_default();
    let Some(state) = of["state"].as_str() else {
        return String::new();
    };
    let seconds = units::Duration::seconds(of["seconds"].as_u64().unwrap_or(0));
    let (node, api, pods) = (word("node"), word("api"), &of["pods"]);
    let mut text =
        format!("Kubernetes: {state} for {seconds}, {pods} pods of node {node}, by {api}\n");
    if let Some(error) = of["error"].as_str() {
        text.push_str(&format!("  latest error: {error}\n"));
    }
    text
}

fn line(name: &str, value: &Value) -> String {
    let number = value.as_f64().unwrap_or(0.0);
    match number.fract() == 0.0 {
        true => format!("{name:<52} {number:>16.0}\n"),
        false => format!("{name:<52} {number:>16.2}\n"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_are_lines_and_what_is_wrong_is_said() {
        let status = json!({
            "version": "1.0.0", "pid": 7, "hooks": "fentry", "seconds": 120,
            "why_not_ready": "nothing was exported yet",
            "config": {
                "file": "w.yaml", "applied": 2, "refused": 1, "fault": "w.yaml:1: no",
                "at_next_start": ["observe.buffer"],
            },
            "kubernetes": {
                "api": "https://10.0.0.1", "node": "n1", "state": "failing", "seconds": 60, "pods": 3,
                "error": "403: no",
            },
            "figures": {"a.b": 3.0, "c": {"x": 0.25}},
        });
        let expected = "\
wirespan 1.0.0, process 7, fentry hooks, for 2m: not ready: nothing was exported yet
configuration: w.yaml, changed 2 times, refused 1
  not changed: w.yaml:1: no
  at the next start: observe.buffer
Kubernetes: failing for 1m, 3 pods of node n1, by https://10.0.0.1
  latest error: 403: no

a.b                                                                 3
c x                                                              0.25
";
        assert_eq!(render(&status), expected);
    }
}

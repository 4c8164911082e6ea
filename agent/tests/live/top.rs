//! `wirespan top` in a real terminal: what it shows, and what its keys do.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::lab::{Lab, run};
use crate::watch::{Folder, WIRESPAN, Watcher, capture, until};

/// A terminal of tmux, in which a program runs.
struct Window {
    socket: String,
}

impl Window {
    /// Runs `top` in a window of this size; behind it stands how it ended. `None`, said aloud, where
    /// there is no tmux.
    fn start(size: (u16, u16), options: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            assert!(std::env::var_os("WIRESPAN_LIVE").is_none(), "missing: tmux");
            eprintln!("SKIPPED live top: missing tmux");
            return None;
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let socket = format!("wirespan-{}-{number}", std::process::id());
        let window = Self { socket };
        let command = format!("{WIRESPAN} top {options}; echo ended with $?; sleep 60");
        let (width, height) = (size.0.to_string(), size.1.to_string());
        let session = ["new-session", "-d", "-x", &width, "-y", &height];
        window.tmux(&[&session[..], &["env", "TERM=screen", "sh", "-c", &command]].concat());
        Some(window)
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        run("tmux", &[&["-L", &self.socket], arguments].concat())
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as it should be.
    fn shows(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        until(&format!("{what} on the screen"), || {
            screen = self.screen();
            holds(&screen)
        });
        screen
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .args(["-L", &self.socket, "kill-server"])
            .status();
    }
}

/// Last number of the row that begins with this word.
fn total(screen: &str, name: &str) -> Option<u64> {
    let row = screen.lines().find(|line| line.starts_with(name))?;
    row.split_whitespace().last()?.parse().ok()
}

#[test]
fn top_counts_sorts_filters_and_leaves_the_terminal_as_it_was() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let options = format!("--no-tls --buffer 64 --port {port}");
    let Some(window) = Window::start((110, 16), &options) else {
        return;
    };
    window.shows("the heading", |screen| screen.contains("1 services"));
    let mut urls = String::new();
    for i in 0..40 {
        let path = if i % 4 == 0 { "absent" } else { "" };
        writeln!(
            urls,
            "url = http://127.0.0.1:{port}/{path}\noutput = /dev/null"
        )
        .expect("text");
    }
    let list = std::env::temp_dir().join(format!("wirespan-top-{}", std::process::id()));
    std::fs::write(&list, urls).expect("a file");
    run("curl", &["-sS", "-K", list.to_str().expect("a path")]);
    std::fs::remove_file(&list).expect("a file");

    window.shows("all requests of both sides", |screen| {
        total(screen, "curl") == Some(40) && total(screen, "nginx") == Some(40)
    });
    window.press(&["2", "s", "/", "n", "g", "i", "Enter"]);
    let screen = window.shows("the filtered operations", |screen| {
        screen.contains("sort: ERRORS") && screen.contains("[ngi]") && screen.contains("GET /")
    });
    assert!(!screen.contains("curl"), "{screen}");
    window.press(&["Escape"]);
    window.press(&["4"]);
    window.shows("slow requests", |screen| screen.contains("GET /absent"));
    window.tmux(&["resize-window", "-x", "30", "-y", "5"]);
    window.shows("that it is too small", |screen| screen.contains("30x5"));
    window.tmux(&["resize-window", "-x", "110", "-y", "16"]);
    window.press(&["q"]);
    let screen = window.shows("its end", |screen| screen.contains("ended with"));
    assert!(screen.contains("ended with 0"), "{screen}");
    assert!(!screen.contains("1 services"), "{screen}");
}

#[test]
fn top_shows_what_an_agent_observes_and_says_when_it_has_gone() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let folder = Folder::new("top");
    let socket = folder.file("agent.sock");
    let socket = socket.to_str().expect("UTF-8");
    let port = lab.told("nginx");
    let places = ["--listen", "127.0.0.1:0", "--socket", socket];
    let watcher = Watcher::start(&[&["agent", "--no-tls", "--port", port][..], &places].concat());
    let options = format!("--socket {socket}");
    let Some(window) = Window::start((110, 16), &options) else {
        return;
    };
    window.shows("where it comes from", |screen| screen.contains("agent at"));
    let url = format!("http://127.0.0.1:{port}/api/x?[1-30]");
    run("curl", &["-sS", "-o", "/dev/null", &url]);
    window.shows("all requests", |screen| total(screen, "nginx") == Some(30));
    watcher.end();
    let screen = window.shows("that it has gone", |screen| {
        screen.contains("cannot ask an agent")
    });
    assert_eq!(total(&screen, "nginx"), Some(30), "{screen}");
    window.press(&["q"]);
    window.shows("its end", |screen| screen.contains("ended with 0"));
}

#[test]
fn without_an_agent_it_says_so() {
    let Some(window) = Window::start((110, 16), "--socket /nowhere/agent.sock") else {
        return;
    };
    let screen = window.shows("its end", |screen| screen.contains("ended with 2"));
    assert!(
        screen.contains("cannot ask an agent at /nowhere"),
        "{screen}"
    );
}

#[test]
fn without_a_terminal_it_says_what_to_use_instead() {
    let top = Command::new(WIRESPAN)
        .arg("top")
        .output()
        .expect("wirespan");
    assert_eq!(top.status.code(), Some(2));
    let said = String::from_utf8_lossy(&top.stderr);
    assert!(said.contains("needs a terminal"), "{said}");
}

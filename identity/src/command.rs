//! What a program is called: its executable, or the script that an interpreter runs.

/// What is taken of an argument, in bytes.
const MAX_NAME: usize = 128;
/// Arguments that are looked at.
const MAX_ARGUMENTS: usize = 64;

/// The name of the program that `executable` runs with these arguments (`/proc/PID/cmdline`, the
/// program's own name first), if it is an interpreter and they name one: a script, a module, a class.
///
/// Nothing else of a command line leaves this function: passwords are passed there.
#[must_use]
pub fn script(executable: &str, cmdline: &[u8]) -> Option<String> {
    let interpreter = Interpreter::of(executable)?;
    let arguments = cmdline.split(|byte| *byte == 0).skip(1);
    let arguments = arguments
        .take(MAX_ARGUMENTS)
        .map(|argument| str::from_utf8(argument).ok());
    let arguments: Vec<&str> = arguments.map_while(|argument| argument).collect();
    let named = interpreter.named(&arguments)?;
    let base = named.rsplit('/').next()?;
    let name = SUFFIXES
        .iter()
        .find_map(|suffix| base.strip_suffix(suffix))
        .unwrap_or(base);
    let plain = !name.is_empty() && name.len() <= MAX_NAME && !name.contains(char::is_control);
    plain.then(|| name.to_owned())
}

/// What names of scripts end with.
const SUFFIXES: [&str; 11] = [
    ".sh", ".py", ".rb", ".js", ".mjs", ".cjs", ".ts", ".php", ".pl", ".jar", ".dll",
];

/// How a program is told what to run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Interpreter {
    /// Options with an argument of their own behind them.
    with_argument: &'static [&'static str],
    /// Options behind which the program's text stands: it has no name.
    text: &'static [&'static str],
    /// The option behind which a module stands.
    module: Option<&'static str>,
    /// A word before the script.
    verb: Option<&'static str>,
    /// Whether what is run is a class.
    classes: bool,
}

const PLAIN: Interpreter = Interpreter {
    with_argument: &[],
    text: &["-e", "-c", "-r"],
    module: None,
    verb: None,
    classes: false,
};

impl Interpreter {
    /// By the name of the executable, whatever its version: `python3.11`.
    fn of(executable: &str) -> Option<Self> {
        let name =
            executable.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
        Some(match name {
            "python" | "pypy" => Self {
                with_argument: &["-W", "-X"],
                text: &["-c"],
                module: Some("-m"),
                ..PLAIN
            },
            "node" | "nodejs" => Self {
                with_argument: &["-r", "--require", "--import", "--loader", "--env-file"],
                text: &["-e", "--eval", "-p", "--print"],
                ..PLAIN
            },
            "ruby" => Self {
                with_argument: &["-r", "-I", "-C", "-E"],
                text: &["-e"],
                ..PLAIN
            },
            "perl" => Self {
                with_argument: &["-I"],
                text: &["-e", "-E"],
                ..PLAIN
            },
            "php" => Self {
                with_argument: &["-c", "-d", "-S", "-t"],
                text: &["-r"],
                ..PLAIN
            },
            "deno" | "bun" => Self {
                verb: Some("run"),
                text: &["eval"],
                ..PLAIN
            },
            "dotnet" => Self {
                verb: Some("exec"),
                ..PLAIN
            },
            "java" => Self {
                with_argument: &[
                    "-cp",
                    "-classpath",
                    "--class-path",
                    "-p",
                    "--module-path",
                    "--add-opens",
                    "--add-modules",
                ],
                text: &[],
                classes: true,
                ..PLAIN
            },
            "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "busybox" => Self {
                with_argument: &["-o", "-O"],
                text: &["-c", "-lc"],
                ..PLAIN
            },
            _ => return None,
        })
    }

    /// What the arguments name.
    fn named<'a>(&self, arguments: &[&'a str]) -> Option<&'a str> {
        let mut rest = arguments.iter().copied();
        while let Some(argument) = rest.next() {
            if Some(argument) == self.module
                || self.classes && matches!(argument, "-m" | "--module")
            {
                return rest.next();
            }
            if self.classes && argument == "-jar" {
                return rest.next();
            }
            if self.text.contains(&argument) {
                return None;
            }
            if self.with_argument.contains(&argument) {
                rest.next();
            } else if Some(argument) != self.verb && !argument.starts_with('-') {
                return match self.classes {
                    true => argument.rsplit('.').next(),
                    false => Some(argument),
                };
            }
        }
        None
    }
}

/// The name of a process by its arguments (`/proc/PID/cmdline`), if `comm` (`/proc/PID/comm`: 15 bytes at most, and
/// a line feed) is the same.
#[must_use]
pub fn started_as(cmdline: &[u8], comm: &[u8]) -> Option<String> {
    let first = cmdline
        .split(|byte| matches!(byte, 0 | b' ' | b':'))
        .next()?;
    let name = first.rsplit(|byte| *byte == b'/').next()?;
    let comm = comm.trim_ascii_end();
    let same = !comm.is_empty() && name.get(..15).unwrap_or(name) == comm;
    let name = std::str::from_utf8(name).ok()?;
    (same && name.len() <= 64).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(executable: &str, command: &str) -> Option<String> {
        script(executable, command.replace(' ', "\0").as_bytes())
    }

    #[test]
    fn interpreters_are_called_by_what_they_run() {
        for (executable, command, name) in [
            (
                "python3.11",
                "python3 -u /srv/shop/cart.py --port 80",
                "cart",
            ),
            ("python3", "python3 -m http.server 80", "http.server"),
            ("python3", "python3 -W ignore -X dev app.py", "app"),
            (
                "python3",
                "/usr/bin/python3 /usr/bin/gunicorn app:app",
                "gunicorn",
            ),
            ("pypy3", "pypy3 a.py", "a"),
            (
                "node",
                "node --max-old-space-size=100 -r ./tracing.js server.js",
                "server",
            ),
            ("ruby3.1", "ruby -I lib bin/puma", "puma"),
            ("php8.2", "php -d a=b artisan", "artisan"),
            ("perl5.36.0", "perl -w x.pl", "x"),
            (
                "java",
                "java -Xmx1g -cp a.jar:b.jar com.example.shop.Main arg",
                "Main",
            ),
            (
                "java",
                "java -jar /opt/shop-1.2.jar --password=x",
                "shop-1.2",
            ),
            ("dotnet", "dotnet Shop.dll", "Shop"),
            ("deno", "deno run --allow-net main.ts", "main"),
            ("bash", "bash -x /usr/local/bin/entry.sh", "entry"),
            ("dash", "sh /usr/local/bin/entry", "entry"),
        ] {
            assert_eq!(
                named(executable, command).unwrap_or_default(),
                name,
                "{command}"
            );
        }
    }

    #[test]
    fn what_has_no_name_is_called_by_nothing_else() {
        for (executable, command) in [
            ("nginx", "nginx: worker process"),
            ("python3", "python3"),
            ("python3", "python3 -c print(1) secret"),
            ("python3", "python3 -m"),
            ("bash", "bash -c mysql -psecret"),
            ("node", "node -e secret"),
            ("java", "java -cp"),
            ("mysql", "mysql -psecret"),
        ] {
            assert_eq!(named(executable, command), None, "{command}");
        }
    }

    #[test]
    fn hostile_command_lines_are_bounded() {
        assert_eq!(script("python3", b"python3\0\xff\xfe.py\0a.py"), None);
        assert_eq!(
            script(
                "python3",
                &[b"python3\0".as_slice(), &[b'a'; 4096]].concat()
            ),
            None
        );
        assert_eq!(script("python3", &b"-\0".repeat(1 << 20)), None);
        assert_eq!(script("python3", b"python3\0a\nb.py"), None);
        assert_eq!(script("", b""), None);
    }

    #[test]
    fn a_link_to_an_executable_is_a_program_of_its_own() {
        for (cmdline, comm, name) in [
            (
                "/usr/bin/redis-server 127.0.0.1:6379\0",
                "redis-server\n",
                Some("redis-server"),
            ),
            (
                "nginx: master process /usr/sbin/nginx\0",
                "nginx\n",
                Some("nginx"),
            ),
            (
                "postgres: 15/main: walwriter\0",
                "postgres\n",
                Some("postgres"),
            ),
            (
                "a-name-of-more-than-15\0-x\0",
                "a-name-of-more-\n",
                Some("a-name-of-more-than-15"),
            ),
            ("/usr/bin/java\0-jar\0x.jar\0", "main\n", None),
            ("", "kworker/0:1\n", None),
            ("", "", None),
        ] {
            let found = started_as(cmdline.as_bytes(), comm.as_bytes());
            assert_eq!(found.as_deref(), name, "{cmdline:?}");
        }
        assert_eq!(started_as(b"\xff\xfe\0", b"\xff\xfe\n"), None);
    }
}

//! Standard output and standard error: who sees what, and in which colours.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use wirespan_export::table::Colour;

use crate::exit::Exit;

/// When to colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ColourChoice {
    /// On a terminal, unless NO_COLOR is set; everywhere with CLICOLOR_FORCE.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// The two output streams. Data go to standard output, everything else to standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    choice: ColourChoice,
    pub(crate) quiet: bool,
}

impl Terminal {
    pub(crate) const fn new(choice: ColourChoice, quiet: bool) -> Self {
        Self { choice, quiet }
    }

    /// Whether standard output is coloured.
    pub(crate) fn stdout_colour(&self) -> Colour {
        self.colour(io::stdout().is_terminal())
    }

    /// Whether standard error is coloured.
    pub(crate) fn stderr_colour(&self) -> Colour {
        self.colour(io::stderr().is_terminal())
    }

    /// Whether the locale can show more than ASCII.
    pub(crate) fn is_unicode() -> bool {
        is_utf8(|name| env::var(name).ok())
    }

    /// Tells the user what went wrong and what to do about it.
    pub(crate) fn error(&self, message: &str) {
        self.note(&format!("error: {message}\n"));
    }

    /// Writes to standard error. Nobody is left to tell when that fails.
    pub(crate) fn note(&self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Writes data to standard output; reports a failure and tells how to end.
    pub(crate) fn data(&self, bytes: &[u8]) -> Result<(), Exit> {
        write_stdout(bytes).map_err(|error| self.write_failed(&error))
    }

    /// Reports that standard output could not be written.
    pub(crate) fn write_failed(&self, error: &io::Error) -> Exit {
        let exit = Exit::of_write(error);
        if exit != Exit::Done {
            self.error(&format!("cannot write to standard output: {error}"));
        }
        exit
    }

    fn colour(&self, is_terminal: bool) -> Colour {
        decide(self.choice, is_terminal, |name| {
            env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0")
        })
    }
}

/// Writes all of `bytes` to standard output, at once.
pub(crate) fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// `--color` before NO_COLOR before CLICOLOR_FORCE before what the stream is.
fn decide(choice: ColourChoice, is_terminal: bool, is_set: impl Fn(&str) -> bool) -> Colour {
    let on = match choice {
        ColourChoice::Always => true,
        ColourChoice::Never => false,
        ColourChoice::Auto => !is_set("NO_COLOR") && (is_set("CLICOLOR_FORCE") || is_terminal),
    };
    if on { Colour::On } else { Colour::Off }
}

/// Whether the first of the variables that is set, in the order of `locale(7)`, names UTF-8.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .filter_map(variable)
        .find(|value| !value.is_empty());
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_then_no_color_then_clicolor_force_then_the_stream() {
        let decided = |choice, is_terminal, set: &[&str]| {
            decide(choice, is_terminal, |name| set.contains(&name)) == Colour::On
        };
        assert!(decided(ColourChoice::Always, false, &["NO_COLOR"]));
        assert!(!decided(ColourChoice::Never, true, &["CLICOLOR_FORCE"]));
        assert!(!decided(
            ColourChoice::Auto,
            true,
            &["NO_COLOR", "CLICOLOR_FORCE"]
        ));
        assert!(decided(ColourChoice::Auto, false, &["CLICOLOR_FORCE"]));
        assert!(decided(ColourChoice::Auto, true, &[]));
        assert!(!decided(ColourChoice::Auto, false, &[]));
    }

    #[test]
    fn the_first_variable_that_is_set_tells_the_locale() {
        let told = |set: &[(&str, &str)]| {
            let set = set.to_vec();
            is_utf8(|name| {
                let found = set.iter().find(|(set, _)| *set == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(told(&[("LANG", "de_DE.UTF-8")]));
        assert!(told(&[
            ("LC_ALL", ""),
            ("LC_CTYPE", "C.utf8"),
            ("LANG", "C")
        ]));
        assert!(!told(&[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]));
        assert!(!told(&[]));
    }
}

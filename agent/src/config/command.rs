//! `wirespan config`: the schema, what would hold, and whether a file is right.

use std::path::Path;

use clap::ArgMatches;
use wirespan_engine::Registry;

use super::document;
use super::keys;
use super::load::{Effective, Fault, Sources};
use super::resolve;
use crate::cli::{ConfigCommand, ConfigPrintArgs};
use crate::exit::Exit;
use crate::terminal::Terminal;

/// Runs `config`; `matches` are those of its command.
pub(crate) fn run(
    command: &ConfigCommand,
    matches: Option<&ArgMatches>,
    registry: &Registry,
    terminal: &Terminal,
) -> Exit {
    let text = match command {
        ConfigCommand::Schema => Ok(format!("{:#}\n", keys::schema())),
        ConfigCommand::Print(args) => print(args, matches, registry),
        ConfigCommand::Check { file } => check(file, registry),
    };
    match text {
        Ok(text) => terminal.data(text.as_bytes()).err().unwrap_or(Exit::Done),
        Err(fault) => {
            terminal.error(&fault.to_string());
            Exit::Usage
        }
    }
}

fn print(
    args: &ConfigPrintArgs,
    matches: Option<&ArgMatches>,
    registry: &Registry,
) -> Result<String, Fault> {
    let Some(matches) = matches.filter(|_| args.effective) else {
        return Ok(document::yaml(&keys::keys(), None));
    };
    let sources = Sources::of(args.agent.config.as_deref(), matches)?;
    let effective = sources.load()?;
    verify(&sources, &effective, registry)?;
    Ok(document::yaml(&sources.keys, Some(&effective)))
}

/// A file by itself: what this machine and this environment are like does not count.
fn check(file: &Path, registry: &Registry) -> Result<String, Fault> {
    let sources = Sources::file(file);
    let effective = sources.load()?;
    verify(&sources, &effective, registry)?;
    Ok(format!("{}: correct\n", file.display()))
}

fn verify(sources: &Sources, effective: &Effective, registry: &Registry) -> Result<(), Fault> {
    resolve::check(&effective.config, registry)?;
    resolve::exporting(sources, effective).map(|_| ())
}

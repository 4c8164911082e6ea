//! The commands of `wirespan`, as a library: a distribution with further protocols is a `main` of
//! its own, five lines long, that adds them to [`protocols`] and calls [`main`].

use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory as _, FromArgMatches as _};
use wirespan_engine::DuplicateProtocol;

mod census;
mod cli;
mod collect;
mod config;
mod doctor;
mod emit;
mod exit;
mod explain;
mod fault;
mod filter;
mod introspect;
mod live;
mod node;
mod pipeline;
mod pods;
mod replay;
mod signals;
mod terminal;
mod top;
mod units;
mod workers;

pub use filter::Filter;
pub use pipeline::{Format, Found, Pipeline};
pub use signals::Signals;
pub use wirespan_engine::{Registry, RegistryBuilder, api};
pub use wirespan_export::table::Colour;
pub use wirespan_replay::Input;

use cli::{Cli, Command};
use exit::Exit;
use terminal::Terminal;

/// The protocols of this repository, to be registered as they are or with others added.
#[must_use]
pub fn protocols() -> RegistryBuilder {
    Registry::builder()
        .with(wirespan_http::Http)
        .with(wirespan_http::WebSocket)
        .with(wirespan_grpc::Http2)
        .with(wirespan_postgres::Postgres)
        .with(wirespan_mysql::MySql)
        .with(wirespan_redis::Redis)
}

/// Runs the program on the arguments of the process, with the given protocols.
///
/// A registry that could not be built is reported like any wrong configuration.
#[must_use]
pub fn main(registry: Result<Registry, DuplicateProtocol>) -> ExitCode {
    fault::hide_messages();
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let of_command = matches.subcommand().map(|(_, matches)| matches);
    let terminal = Terminal::new(cli.color, cli.quiet);
    let registry = match registry {
        Ok(registry) => Arc::new(registry),
        Err(duplicate) => {
            terminal.error(&duplicate.to_string());
            return Exit::Usage.into();
        }
    };
    let exit = match cli.command {
        Command::Replay(args) => replay::run(&args, &registry, &terminal),
        Command::Tail(args) => live::tail(&args, &registry, &terminal),
        Command::Agent(args) => node::run(&args, of_command, &registry, &terminal),
        Command::Top(args) => top::run(&args, &registry, &terminal),
        Command::Config(command) => {
            let matches = of_command.and_then(|matches| matches.subcommand());
            let matches = matches.map(|(_, matches)| matches);
            config::command::run(&command, matches, &registry, &terminal)
        }
        Command::Status(args) => node::status(&args, &terminal),
        Command::Doctor(args) => doctor::run(&args, &terminal),
        Command::Explain(args) => explain::run(&args, &registry, &terminal),
        Command::Record(args) => live::record(*args, &registry, &terminal),
        Command::Emit(command) => emit::run(&command, &terminal),
        Command::Protocols => introspect::protocols(&registry, &terminal),
        Command::Completions { shell } => {
            introspect::completions(shell, &mut Cli::command(), &terminal)
        }
        Command::Man => introspect::man(Cli::command(), &terminal),
    };
    exit.into()
}

//! Commands about the program itself.

use clap::Command;
use clap_complete::Shell;
use wirespan_engine::Registry;

use crate::exit::Exit;
use crate::terminal::Terminal;

/// `wirespan protocols`: name, usual ports and description of each registered protocol.
pub(crate) fn protocols(registry: &Registry, terminal: &Terminal) -> Exit {
    let mut text = String::new();
    for protocol in registry.protocols() {
        let ports: Vec<_> = protocol.ports().iter().map(u16::to_string).collect();
        let (name, description) = (protocol.name().0, protocol.description());
        text.push_str(&format!(
            "{name:<12} {:<16} {description}\n",
            ports.join(",")
        ));
    }
    put(text.as_bytes(), terminal)
}

/// `wirespan completions SHELL`.
pub(crate) fn completions(shell: Shell, command: &mut Command, terminal: &Terminal) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "wirespan", &mut script);
    put(&script, terminal)
}

/// `wirespan man`: the manual page of the program, and behind it those of its commands.
pub(crate) fn man(mut command: Command, terminal: &Terminal) -> Exit {
    command.build();
    let mut pages = Vec::new();
    let commands: Vec<_> = command.get_subcommands().cloned().collect();
    for page in std::iter::once(command).chain(commands) {
        if page.get_name() == "help" {
            continue;
        }
        if let Err(error) = clap_mangen::Man::new(page).render(&mut pages) {
            return terminal.write_failed(&error);
        }
    }
    put(&pages, terminal)
}

fn put(bytes: &[u8], terminal: &Terminal) -> Exit {
    terminal.data(bytes).err().unwrap_or(Exit::Done)
}

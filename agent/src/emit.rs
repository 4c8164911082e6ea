//! `wirespan emit`: files for the programs that start it.

use std::env;
use std::path::Path;

use crate::cli::{EmitCommand, SystemdArgs};
use crate::exit::Exit;
use crate::terminal::Terminal;

/// Runs `emit`.
pub(crate) fn run(command: &EmitCommand, terminal: &Terminal) -> Exit {
    let EmitCommand::Systemd(args) = command;
    match systemd(args) {
        Ok(unit) => terminal.data(unit.as_bytes()).err().unwrap_or(Exit::Done),
        Err(message) => {
            terminal.error(&message);
            Exit::Usage
        }
    }
}

/// What the service may do: what `wirespan doctor` says that capture needs, and no more. See
/// systemd.exec(5).
///
/// Processes and their files must be seen as they are: with `ProtectProc=`, `PrivateTmp=` or
/// `ProtectHome=yes` they would not be, nor libraries in the folders that these hide.
const HARDENING: &str = "\
CapabilityBoundingSet=CAP_BPF CAP_PERFMON CAP_DAC_READ_SEARCH CAP_SYS_PTRACE
NoNewPrivileges=yes
# Before Linux 5.11 maps count as locked memory.
LimitMEMLOCK=64M
SystemCallArchitectures=native
SystemCallFilter=@system-service bpf perf_event_open
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelModules=yes
ProtectSystem=strict
# For its socket; the folders below are for records and recordings.
ReadWritePaths=/run
LogsDirectory=wirespan
LogsDirectoryMode=0700
StateDirectory=wirespan
StateDirectoryMode=0700
UMask=0077
";

/// A unit file, systemd.service(5).
///
/// # Errors
///
/// A path that cannot be in one, or a budget that is none.
fn systemd(args: &SystemdArgs) -> Result<String, String> {
    let program = match &args.program {
        Some(program) => program.clone(),
        None => env::current_exe().map_err(|e| format!("--program: {e}"))?,
    };
    if !program.is_absolute() {
        let program = program.display();
        return Err(format!(
            "--program {program}: expected a path from the root"
        ));
    }
    let mut command = format!("{} agent", word(&program)?);
    if let Some(config) = &args.config {
        command.push_str(&format!(" --config {}", word(config)?));
    }
    let mut budget = String::new();
    if let Some(processors) = args.processors {
        if !(processors.is_finite() && processors > 0.0) {
            return Err(format!("--processors {processors}: expected more than 0"));
        }
        budget.push_str(&format!(
            "Environment=WIRESPAN_BUDGET_PROCESSORS={processors}\n"
        ));
    }
    if let Some(memory) = args.memory {
        budget.push_str(&format!("Environment=WIRESPAN_BUDGET_MEMORY={memory}\n"));
    }
    Ok(format!(
        "\
# Printed by wirespan {version}; for /etc/systemd/system/wirespan.service
[Unit]
Description=Requests of this machine's services as metrics and spans
Documentation=man:wirespan(1)
After=network.target
ConditionPathExists=/sys/kernel/btf/vmlinux

[Service]
Type=notify
ExecStart={command}
ExecReload=kill -HUP $MAINPID
WatchdogSec=30
Restart=on-failure
RestartSec=5
{budget}{HARDENING}
[Install]
WantedBy=multi-user.target
",
        version = env!("CARGO_PKG_VERSION"),
    ))
}

/// A path as a word of a command line, systemd.service(5): quoted, without meaning for systemd.
fn word(path: &Path) -> Result<String, String> {
    let wrong = || format!("{}: it cannot be written in a unit file", path.display());
    let text = path.to_str().ok_or_else(wrong)?;
    if text.chars().any(char::is_control) {
        return Err(wrong());
    }
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    Ok(match text.chars().all(is_plain) {
        true => escaped,
        false => format!("\"{escaped}\""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_mean_what_they_are() {
        for (path, expected) in [
            ("/usr/bin/wirespan", "/usr/bin/wirespan"),
            ("/opt/a b/%n", "\"/opt/a b/%%n\""),
            ("/$HOME/\"x\\", "\"/$$HOME/\\\"x\\\\\""),
        ] {
            assert_eq!(word(Path::new(path)).expect("a word"), expected);
        }
        assert!(word(Path::new("/a\nExecStart=/bin/sh")).is_err());
    }
}

//! From the functions of a library to probes on them.

use std::path::Path;

use wirespan_capture_abi::{Place as Held, Recipe};
use wirespan_probe_sites::{
    Condition, ExitSite, Exits, Family, Function, Instruction, Library, Register, Role, Value,
};

use crate::Error;
use crate::hooks::{Link, Place};
use crate::kernel::Kernel;

/// How Go's functions look whether their stack has room.
const BELOW_OR_EQUAL: Condition = Condition(6);

/// A program at a place of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Point {
    program: &'static str,
    place: Place,
}

/// Attaches probes to the functions of a library; dropping the links detaches them.
pub(super) fn attach(
    kernel: &mut Kernel,
    library: &Library,
    path: &Path,
) -> Result<Vec<Link>, Error> {
    let able = Able {
        cookies: kernel.has_cookies(),
        trampolines: has_safe_trampolines(&release()),
    };
    let mut places: Vec<(&str, Vec<Place>)> = Vec::new();
    for Point { program, place } in points(library, able) {
        match places.iter_mut().find(|(known, _)| *known == program) {
            Some((_, places)) => places.push(place),
            None => places.push((program, vec![place])),
        }
    }
    let mut links = Vec::new();
    for (program, places) in places {
        links.extend(kernel.attach_to_file(program, path, &places)?);
    }
    Ok(links)
}

/// What the kernel can do.
#[derive(Clone, Copy)]
struct Able {
    /// Tell a program which recipe to follow (since Linux 5.15).
    cookies: bool,
    /// Return through a uretprobe in whatever process.
    trampolines: bool,
}

/// Release of the running kernel: `6.12.9-amd64`.
fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// Linux 6.11 let uretprobes return through a system call, which seccomp kept sandboxed processes
/// from until 6.14, and some version of 6.12 and 6.13: they crashed.
fn has_safe_trampolines(release: &str) -> bool {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or_default();
    match (next(), next(), next()) {
        (6, 11, _) => false,
        (6, 12, patch) => patch >= 20,
        (6, 13, patch) => patch >= 10,
        _ => true,
    }
}

/// Where which program goes: ends of calls first, so that a call whose beginning was seen is not
/// left open.
fn points(library: &Library, able: Able) -> Vec<Point> {
    let (mut entries, mut exits) = (Vec::new(), Vec::new());
    for function in &library.functions {
        let Some((entry, exit)) = programs(library.family, function.role) else {
            continue;
        };
        if let Exits::Forwards(_) = function.exits {
            continue;
        }
        let mut start = function.entry.file_offset;
        if function.role == Role::GoWriteRecord
            && function.entry.instruction != Instruction::Branch(BELOW_OR_EQUAL)
        {
            // It could not be told from one that begins anew with a larger stack.
            continue;
        }
        if let Some(exit) = exit {
            match (
                ends(function, exit, able),
                exit.returned.filter(|_| able.trampolines),
            ) {
                (Some(ends), _) => exits.extend(ends),
                (None, Some(returned)) => {
                    // One trap serves both.
                    start = function.start.file_offset;
                    exits.push(point(returned, start));
                }
                (None, None) => continue,
            }
        }
        entries.push(point(entry, start));
    }
    exits.extend(entries);
    exits
}

const fn point(program: &'static str, offset: u64) -> Point {
    Point {
        program,
        place: Place {
            offset,
            cookie: None,
        },
    }
}

/// Programs for the end of a call.
#[derive(Clone, Copy)]
struct Exit {
    /// At a place where the result is in its register.
    here: &'static str,
    /// At another place, with a recipe; none if the result does not matter.
    elsewhere: Option<&'static str>,
    /// As a uretprobe, where that may be.
    returned: Option<&'static str>,
}

const MOVED: Option<Exit> = Some(Exit {
    here: "tls_return",
    elsewhere: Some("tls_branch"),
    returned: Some("tls_returned"),
});

/// Go moves stacks: a return address that was replaced would crash it.
const GO: Option<Exit> = Some(Exit {
    here: "go_return",
    elsewhere: None,
    returned: None,
});

const HANDSHAKE: Option<Exit> = Some(Exit {
    here: "tls_handshake_return",
    elsewhere: None,
    returned: Some("tls_handshake_returned"),
});

/// The programs for a function: at its beginning and at its end.
fn programs(family: Family, role: Role) -> Option<(&'static str, Option<Exit>)> {
    if family == Family::Go {
        return match role {
            Role::GoWriteRecord => Some(("go_write_record", None)),
            Role::Read => Some(("go_read", GO)),
            Role::Shutdown => Some(("go_close", None)),
            _ => None,
        };
    }
    match role {
        Role::Write => Some(("tls_write", MOVED)),
        Role::Read => Some(("tls_read", MOVED)),
        Role::WriteEx | Role::WriteEarly => Some(("tls_write_ex", MOVED)),
        Role::WriteEx2 => Some(("tls_write_ex2", MOVED)),
        Role::ReadEx | Role::ReadEarly => Some(("tls_read_ex", MOVED)),
        Role::Sendfile => Some(("tls_sendfile", MOVED)),
        Role::Handshake | Role::Connect | Role::Accept => Some(("tls_handshake", HANDSHAKE)),
        Role::Free => Some(("tls_free", None)),
        // What is peeked at is read later; the rest is not needed.
        _ => None,
    }
}

/// Probes at the places where a function's result is known; `None` if a uretprobe is needed.
fn ends(function: &Function, exit: Exit, able: Able) -> Option<Vec<Point>> {
    let points: Option<Vec<_>> = match &function.exits {
        Exits::Sites(sites) => {
            let points = sites.iter().map(|site| end(site, exit, able.cookies));
            points.collect()
        }
        _ if able.trampolines => return None,
        _ => None,
    };
    points.or_else(|| {
        // Where the kernel cannot do what is cheapest.
        let returns = function.returns.iter();
        let points: Vec<_> = returns
            .map(|site| point(exit.here, site.file_offset))
            .collect();
        (!points.is_empty()).then_some(points)
    })
}

fn end(exit_site: &ExitSite, exit: Exit, cookies: bool) -> Option<Point> {
    let offset = exit_site.site.file_offset;
    let plain = exit_site.value == Value::Register(Register::Rax) && exit_site.if_taken.is_none();
    let Some(program) = exit.elsewhere.filter(|_| !plain) else {
        return Some(point(exit.here, offset));
    };
    let condition = match (exit_site.site.instruction, exit_site.if_taken) {
        (Instruction::Branch(Condition(condition)), Some(_)) => condition,
        _ => Recipe::ALWAYS,
    };
    let taken = exit_site.if_taken.unwrap_or(exit_site.value);
    let recipe = Recipe::new(condition, held(taken), held(exit_site.value))?;
    cookies.then_some(Point {
        program,
        place: Place {
            offset,
            cookie: Some(recipe.0),
        },
    })
}

const fn held(value: Value) -> Held {
    match value {
        Value::Register(register) => Held::Register(register as u8),
        Value::Stack(offset) => Held::Stack(offset),
        Value::Constant(value) => Held::Constant(value),
        Value::Nothing => Held::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uretprobes_are_shunned_where_seccomp_would_kill() {
        for release in ["6.11.0", "6.12.9-amd64", "6.13.1-custom"] {
            assert!(!has_safe_trampolines(release), "{release}");
        }
        for release in [
            "5.10.0-30-amd64",
            "6.10.3",
            "6.12.41+deb13-amd64",
            "6.13.12",
            "6.14.0",
            "7.2.1",
            "",
        ] {
            assert!(has_safe_trampolines(release), "{release}");
        }
    }
}

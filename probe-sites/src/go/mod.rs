//! Go programs: `crypto/tls` in them, and what leads from a connection to its descriptor.
//!
//! Go's compiler leaves a table of all functions (`.gopclntab`) in every program, stripped or not,
//! because its runtime needs it. So functions are always found; only their arguments' places
//! (registers since Go 1.17) and the layout of structures depend on the version.

mod build_info;
mod dwarf;
mod functions;
mod offsets;

use std::borrow::Cow;

use crate::code::Explorer;
use crate::elf::{Image, Symbol};
use crate::entry::{GO, entry};
use crate::exits::stepped;
use crate::reason::Reason;
use crate::scan::{Exits, Family, Function, Goroutines, Library, Machine, Returns, Role, Scan};

pub use offsets::GoOffsets;

/// What is probed. `Handshake`, `HandshakeContext` and the implicit handshake of `Read` and
/// `Write` all go through `handshakeContext`.
const FUNCTIONS: [(&str, Role); 7] = [
    ("crypto/tls.(*Conn).Write", Role::Write),
    ("crypto/tls.(*Conn).Read", Role::Read),
    ("crypto/tls.(*Conn).writeRecordLocked", Role::GoWriteRecord),
    ("crypto/tls.(*Conn).handshakeContext", Role::Handshake),
    ("crypto/tls.(*Conn).Close", Role::Shutdown),
    ("runtime.newproc1", Role::GoSpawn),
    ("runtime.goexit1", Role::GoExit),
];

/// Adds `crypto/tls`, if `image` is a Go program that has it.
pub(crate) fn scan(image: &Image<'_>, scan: &mut Scan) {
    let Some(version) = build_info::version(image) else {
        return;
    };
    let layout = (image.machine == Machine::X86_64).then(|| offsets::of(image, &version));
    scan.goroutines = Some(Goroutines {
        goid: layout.and_then(Result::ok).map(|layout| layout.goid),
    });
    match library(image, version, &mut scan.reasons) {
        Ok(library) => scan.found.extend(library),
        Err(reason) => scan.reasons.push(reason),
    }
}

fn library(
    image: &Image<'_>,
    version: String,
    reasons: &mut Vec<Reason>,
) -> Result<Option<Library>, Reason> {
    if image.machine != Machine::X86_64 {
        return Err(Reason::Machine(image.machine));
    }
    let table = functions::Table::find(image).ok_or(Reason::Damaged(".gopclntab"))?;
    let names: Vec<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
    let found = table.functions(&names);
    let has = |nth: usize| found.get(nth).is_some_and(Option::is_some);
    if !has(0) && !has(1) {
        return Ok(None);
    }
    let mut offsets = offsets::of(image, &version)?;
    let text = functions::text_start(image, &table).ok_or(Reason::Damaged("Go's text address"))?;
    let explorer = Explorer::new(image);
    let mut functions = Vec::new();
    for ((name, role), found) in FUNCTIONS.iter().zip(&found) {
        let function = match found {
            Some(found) => function(image, &explorer, name, *role, found.at(text)),
            None => Err(Reason::Missing(Family::Go, name)),
        };
        match function {
            Ok(function) => functions.push(function),
            Err(reason) => reasons.push(reason),
        }
    }
    offsets.tcp_conn_type = functions::tcp_conn_type(image, &table, text);
    Ok(Some(Library {
        family: Family::Go,
        version: Some(version),
        functions,
        go: Some(offsets),
    }))
}

/// Exits are the return instructions, never a uretprobe: Go moves stacks, and would find the
/// kernel's address on one. They are found by going through the whole function, because the way by
/// which a recovered panic returns is known to the runtime only.
fn function(
    image: &Image<'_>,
    explorer: &Explorer<'_>,
    name: &'static str,
    role: Role,
    symbol: Symbol<'_>,
) -> Result<Function, Reason> {
    let flow = explorer.explore(symbol);
    let start = explorer.start(&flow, name)?;
    let arguments = GO.get(..usize::from(role.arguments())).unwrap_or(&GO);
    let entry = entry(explorer, &flow, arguments).ok_or(Reason::NotCode(name))?;
    let returns = crate::code::returns(image, symbol);
    let (exits, returns) = match (role.returns(Family::Go), returns) {
        (Returns::Nothing, returns) => (Exits::Unneeded, returns.unwrap_or_default()),
        (_, Some(returns)) => (Exits::Sites(stepped(&returns)), returns),
        (_, None) => return Err(Reason::NotCode(name)),
    };
    Ok(Function {
        role,
        name: Cow::Borrowed(name),
        start,
        entry,
        exits,
        returns,
    })
}

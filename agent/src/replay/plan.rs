//! What a command line of `replay` asks for: which captures, and what to compare them with.

use std::path::{Path, PathBuf};

use super::goldens::{captures_in, golden_of};
use crate::cli::{Output, ReplayArgs};
use crate::exit::Exit;

/// The captures in order, and what to do with their records.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) captures: Vec<Capture>,
    pub(crate) check: Check,
    pub(crate) print: Output,
}

/// A capture to replay.
#[derive(Debug)]
pub(crate) struct Capture {
    /// For messages.
    pub(crate) name: String,
    pub(crate) source: Source,
    /// Where its golden is, when captures are checked one by one.
    pub(crate) golden: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) enum Source {
    File(PathBuf),
    Stdin,
    Demo,
}

/// What the records are compared with.
#[derive(Debug)]
pub(crate) enum Check {
    Nothing,
    /// The records of all captures together with this golden.
    Whole(PathBuf),
    /// Those of each capture with its own golden.
    Pairs,
}

/// Makes the plan.
///
/// # Errors
///
/// How to exit, and a message that says what to do.
pub(crate) fn make(args: &ReplayArgs) -> Result<Plan, (Exit, String)> {
    let expect = args.checks.expect.as_deref();
    let folders = args.files.iter().any(|file| file.is_dir());
    let check = match expect {
        Some(golden) if !folders && !golden.is_dir() => Check::Whole(golden.into()),
        Some(_) => Check::Pairs,
        None if folders || args.checks.bless => Check::Pairs,
        None => Check::Nothing,
    };
    let print = print(args, &check)?;
    if let (Check::Whole(golden), false) = (&check, args.checks.bless)
        && !golden.exists()
    {
        let golden = golden.display();
        return Err((
            Exit::Input,
            format!("there is no golden {golden}; --bless writes it"),
        ));
    }
    let mut captures = Vec::new();
    if args.demo {
        captures.push(Capture {
            name: "demo".into(),
            source: Source::Demo,
            golden: pair_of_stream(expect, &check, "demo")?,
        });
    }
    for file in &args.files {
        if file == Path::new("-") {
            captures.push(Capture {
                name: "standard input".into(),
                source: Source::Stdin,
                golden: pair_of_stream(expect, &check, "stdin")?,
            });
        } else if file.is_dir() {
            captures.extend(folder(file, expect, args.checks.goldens())?);
        } else {
            let golden = golden_of(file);
            captures.push(Capture {
                name: file.display().to_string(),
                source: Source::File(file.clone()),
                golden: Some(match (expect, golden.file_name()) {
                    (Some(goldens), Some(name)) => goldens.join(name),
                    _ => golden,
                }),
            });
        }
    }
    Ok(Plan {
        captures,
        check,
        print,
    })
}

/// What goes to standard output.
fn print(args: &ReplayArgs, check: &Check) -> Result<Output, (Exit, String)> {
    match (args.output, check) {
        (None, Check::Nothing) => Ok(Output::Table),
        (None, _) => Ok(Output::None),
        (Some(Output::Table | Output::OtlpJson), Check::Whole(_) | Check::Pairs) => Err((
            Exit::Usage,
            "records are compared, not tables: use -o jsonl, stats or none with --expect, --bless \
             and folders"
                .into(),
        )),
        (Some(output), _) => Ok(output),
    }
}

/// A capture without a path has a golden only in a folder of goldens.
fn pair_of_stream(
    expect: Option<&Path>,
    check: &Check,
    name: &str,
) -> Result<Option<PathBuf>, (Exit, String)> {
    match (check, expect) {
        (Check::Nothing | Check::Whole(_), _) => Ok(None),
        (Check::Pairs, Some(goldens)) => Ok(Some(goldens.join(format!("{name}.golden.jsonl")))),
        (Check::Pairs, None) => Err((
            Exit::Usage,
            format!("{name} has no folder for its golden: name one with --expect"),
        )),
    }
}

/// The captures in `folder` with their goldens, which lie beside them or, by the same relative
/// path, in `expect`.
fn folder(
    folder: &Path,
    expect: Option<&Path>,
    checked: bool,
) -> Result<Vec<Capture>, (Exit, String)> {
    let shown = folder.display();
    let paths = captures_in(folder)
        .map_err(|error| (Exit::Input, format!("cannot read folder {shown}: {error}")))?;
    let capture = |path: PathBuf| {
        let golden = golden_of(&path);
        let golden = match (expect, golden.strip_prefix(folder)) {
            (Some(goldens), Ok(relative)) => goldens.join(relative),
            _ => golden,
        };
        Capture {
            name: path.display().to_string(),
            source: Source::File(path),
            golden: Some(golden),
        }
    };
    let captures: Vec<_> = paths.into_iter().map(capture).collect();
    let has_golden = |capture: &Capture| capture.golden.as_ref().is_some_and(|g| g.exists());
    if captures.is_empty() {
        return Err((Exit::Input, format!("{shown} is a folder without captures")));
    }
    if !checked && !captures.iter().any(has_golden) {
        return Err((
            Exit::Input,
            format!(
                "{shown} is a folder, and no capture in it has a golden: name the captures, or \
                 write goldens with --bless"
            ),
        ));
    }
    Ok(captures)
}

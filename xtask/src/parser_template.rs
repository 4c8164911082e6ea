//! `new-parser`: a copy of `parsers/example` under another name, so that the template is compiled
//! and put through the laws with everything else.

use std::fs;
use std::path::Path;

/// Files of the example that become files of the new parser.
const FILES: [&str; 4] = ["Cargo.toml", "src/lib.rs", "src/wire.rs", "tests/laws.rs"];

/// What the example says of itself, and what a new parser's author is to say instead.
const SENTENCES: [(&str, &str); 3] = [
    (
        "The EXAMPLE protocol: the smallest complete parser, and what `cargo xtask new-parser` starts from.",
        "The EXAMPLE protocol.",
    ),
    (
        "A wirespan parser to start from: a protocol of lines, requests answered in order",
        "The EXAMPLE protocol for wirespan",
    ),
    (
        "EXAMPLE: the parser that new ones start from",
        "EXAMPLE: what of it is covered",
    ),
];

/// Writes the parser `name` into the repository at `root`, and says what is left to do.
pub(crate) fn write(root: &Path, name: &str) -> Result<(), String> {
    check(name)?;
    let folder = root.join("parsers").join(name);
    if folder.exists() {
        return Err(format!("parsers/{name} exists"));
    }
    for file in FILES {
        let from = root.join("parsers/example").join(file);
        put(&folder.join(file), &renamed(&read(&from)?, name))?;
    }
    put(
        &root.join("tests/pcaps").join(name).join("README.md"),
        &format!("Record `{name}` here: real servers, real clients, `<case>.pcap`.\n"),
    )?;
    let target = read(&root.join("fuzz/fuzz_targets/example.rs"))?;
    let target_path = format!("fuzz/fuzz_targets/{name}.rs");
    put(&root.join(target_path), &renamed(&target, name))?;
    put(&root.join("fuzz/corpus").join(name).join("empty"), "")?;
    for list in ["Cargo.toml", "fuzz/Cargo.toml", "fuzz/src/lib.rs"] {
        let path = root.join(list);
        put(&path, &listed(&read(&path)?, name))?;
    }
    // A shorter or longer name breaks lines elsewhere.
    format(root, &["--package", &format!("wirespan-{name}")])?;
    format(root, &["--manifest-path", "fuzz/Cargo.toml"])?;
    println!("{}", next_steps(name));
    Ok(())
}

fn format(root: &Path, what: &[&str]) -> Result<(), String> {
    let mut command = crate::cargo();
    crate::run(command.arg("fmt").args(what).current_dir(root))
}

fn check(name: &str) -> Result<(), String> {
    let mut letters = name.chars();
    let begins = letters.next().is_some_and(|c| c.is_ascii_lowercase());
    if begins && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) {
        Ok(())
    } else {
        Err(format!(
            "{name:?} cannot be a crate and a type: use lower-case letters and digits"
        ))
    }
}

/// The text with the example's names replaced.
fn renamed(text: &str, name: &str) -> String {
    let mut text = text.to_owned();
    for (said, instead) in SENTENCES {
        text = text.replace(said, instead);
    }
    let (first, rest) = name.split_at(1);
    text.replace("Example", &format!("{}{rest}", first.to_uppercase()))
        .replace("EXAMPLE", &name.to_uppercase())
        .replace("example", name)
}

/// A list of crates or targets with the new parser beneath the example: its lines, and in fuzz's
/// manifest its `[[bin]]` block.
fn listed(text: &str, name: &str) -> String {
    let mut out = String::new();
    for block in text.split_inclusive("\n\n") {
        if block.starts_with("[[bin]]") {
            out.push_str(block.trim_end());
            out.push_str("\n\n");
            if block.contains("\"example\"") {
                out.push_str(renamed(block, name).trim_end());
                out.push_str("\n\n");
            }
            continue;
        }
        for line in block.split_inclusive('\n') {
            out.push_str(line);
            if line.contains("example") {
                // Without the remark on the example.
                let said = line.split(" #").next().unwrap_or(line).trim_end();
                out.push_str(&renamed(said, name));
                out.push('\n');
            }
        }
    }
    format!("{}\n", out.trim_end())
}

fn next_steps(name: &str) -> String {
    let kind = renamed("Example", name);
    format!(
        "parsers/{name} is a copy of parsers/example, and works: cargo test -p wirespan-{name}\n\
         \n\
         1. Two lines make it part of the agent:\n\
         \x20    agent/Cargo.toml, [dependencies]:  wirespan-{name}.workspace = true\n\
         \x20    agent's registry:                  .with(wirespan_{name}::{kind})\n\
         2. Write the protocol: src/wire.rs (bytes to items), then probe and parse in src/lib.rs.\n\
         3. Write a conversation or two in tests/laws.rs.\n\
         4. Record captures in tests/pcaps/{name}, then: cargo xtask bless\n\
         \n\
         docs/PARSER-GUIDE.md explains each step."
    )
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn put(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_spellings_are_renamed() {
        assert_eq!(
            renamed(
                "wirespan-example wirespan_example::Example EXAMPLE/1",
                "acme"
            ),
            "wirespan-acme wirespan_acme::Acme ACME/1"
        );
    }

    #[test]
    fn every_sentence_of_the_example_is_replaced() {
        let example = [
            include_str!("../../parsers/example/Cargo.toml"),
            include_str!("../../parsers/example/src/lib.rs"),
        ]
        .concat();
        for (said, _) in SENTENCES {
            assert!(example.contains(said), "the example no longer says: {said}");
        }
    }

    #[test]
    fn a_new_parser_is_listed_beneath_the_example() {
        assert_eq!(
            listed("[a]\nx = 1\nwirespan-example = 2\n\n[b]\n", "acme"),
            "[a]\nx = 1\nwirespan-example = 2\nwirespan-acme = 2\n\n[b]\n"
        );
    }

    #[test]
    fn a_remark_on_the_example_is_not_repeated() {
        let list = "    \"parsers/example\", # the smallest\n";
        assert_eq!(
            listed(list, "acme"),
            format!("{list}    \"parsers/acme\",\n")
        );
    }

    #[test]
    fn a_fuzz_target_is_listed_as_a_block() {
        let bin = |name: &str| format!("[[bin]]\nname = \"{name}\"\npath = \"{name}.rs\"\n");
        let manifest = format!("[x]\n\n{}\n{}", bin("example"), bin("pcap"));
        let expected = format!(
            "[x]\n\n{}\n{}\n{}",
            bin("example"),
            bin("acme"),
            bin("pcap")
        );
        assert_eq!(listed(&manifest, "acme"), expected);
    }

    #[test]
    fn a_name_that_cannot_be_a_crate_is_refused() {
        for name in ["", "Acme", "my-proto", "7up", "../x"] {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(check("amqp091").is_ok());
    }
}

//! Every target's body over its corpus. A crash that was found and mended stays in the corpus.

use std::fs;
use std::path::Path;

use wirespan_fuzz::TARGETS;

#[test]
fn every_corpus_is_survived() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, body) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpora.join(name)).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display()); // Shown when the body panics.
            body(&fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "the corpus of {name} is empty");
    }
}

#[test]
fn every_target_is_in_the_list() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    for entry in fs::read_dir(targets).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap();
        assert!(
            TARGETS.iter().any(|(listed, _)| *listed == name),
            "{name} is not listed"
        );
    }
}

//! Configuration of `wirespan agent`: flags before environment before file before defaults.
//!
//! A key is defined once, in `tree`. Its schema says the rest: which flag and which variable set it,
//! and whether it takes effect while the agent runs.
//!
//! ```text
//! file ────────▶ tree of values ─┐
//! environment ─▶ layer ──────────┼─▶ Effective ─▶ Running (what can change), and the rest
//! flags ───────▶ layer ──────────┘
//! ```

pub(crate) mod command;
mod document;
mod keys;
mod layers;
mod load;
mod resolve;
mod tree;
mod values;

#[cfg(test)]
mod tests;

use std::path::Path;

use clap::ArgMatches;

pub(crate) use layers::Layer;
pub(crate) use load::{Effective, Fault, Sources};
pub(crate) use resolve::{Running, exporting, signals};
pub(crate) use tree::{Admin, Config, FilterKeys, KubernetesKeys};
pub(crate) use values::{Level, Redact};

use keys::Key;

impl Sources {
    /// What `wirespan agent` was given: `matches` are its own.
    ///
    /// # Errors
    ///
    /// A variable that cannot be read.
    pub(crate) fn of(file: Option<&Path>, matches: &ArgMatches) -> Result<Self, Fault> {
        let keys = keys::keys();
        let variable = |name: &str| std::env::var(name).ok();
        let environment = Layer::environment(&keys, &variable).map_err(Fault::new)?;
        Ok(Self {
            file: file.map(Path::to_path_buf),
            environment,
            flags: Layer::flags(&keys, matches),
            keys,
        })
    }

    /// One file, and nothing beside it.
    pub(crate) fn file(path: &Path) -> Self {
        Self {
            file: Some(path.to_path_buf()),
            environment: Layer::default(),
            flags: Layer::default(),
            keys: keys::keys(),
        }
    }

    /// Whether a key was set on the command line.
    fn is_flag(&self, key: &Key) -> bool {
        self.flags.values.iter().any(|said| said.path == key.path)
    }
}

//! The protocols that an engine knows.

use std::collections::BTreeSet;
use std::fmt;

use wirespan_parser_api::{Protocol, ProtocolName};

/// The registered protocols, in order of registration.
pub struct Registry {
    protocols: Vec<Box<dyn Protocol>>,
}

impl Registry {
    /// Starts an empty registry.
    #[must_use]
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder {
            protocols: Vec::new(),
        }
    }

    /// The protocols, in order of registration.
    pub fn protocols(&self) -> impl Iterator<Item = &dyn Protocol> {
        self.protocols.iter().map(AsRef::as_ref)
    }

    /// The index of the protocol of this name.
    pub(crate) fn find(&self, name: ProtocolName) -> Option<usize> {
        self.protocols.iter().position(|p| p.name() == name)
    }

    /// The protocols that exchanges are recorded under, each once: those that filters name.
    #[must_use]
    pub fn recorded(&self) -> Vec<ProtocolName> {
        let mut names = Vec::new();
        for name in self.protocols().flat_map(recorded_as) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Those of the protocols that record exchanges under one of `names`.
    pub(crate) fn recording(&self, names: &[String]) -> Vec<&'static str> {
        let is_named = |name: ProtocolName| names.iter().any(|named| named == name.0);
        let protocols = self.protocols();
        let recording = protocols.filter(|protocol| recorded_as(*protocol).any(is_named));
        recording.map(|protocol| protocol.name().0).collect()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&dyn Protocol> {
        self.protocols.get(index).map(AsRef::as_ref)
    }
}

fn recorded_as(protocol: &dyn Protocol) -> impl Iterator<Item = ProtocolName> {
    let others = protocol.recorded_as();
    let own = others.is_empty().then(|| protocol.name());
    own.into_iter().chain(others.iter().copied())
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.protocols().map(Protocol::name))
            .finish()
    }
}

/// Collects protocols for a [`Registry`].
pub struct RegistryBuilder {
    protocols: Vec<Box<dyn Protocol>>,
}

impl RegistryBuilder {
    /// Adds a protocol. Earlier ones win where detection finds two equally likely.
    #[must_use]
    pub fn with(mut self, protocol: impl Protocol) -> Self {
        self.protocols.push(Box::new(protocol));
        self
    }

    /// Finishes the registry.
    ///
    /// # Errors
    ///
    /// When two protocols have the same name.
    pub fn build(self) -> Result<Registry, DuplicateProtocol> {
        let mut names = BTreeSet::new();
        for protocol in &self.protocols {
            if !names.insert(protocol.name()) {
                return Err(DuplicateProtocol(protocol.name()));
            }
        }
        Ok(Registry {
            protocols: self.protocols,
        })
    }
}

impl fmt::Debug for RegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.protocols.iter().map(|p| p.name()))
            .finish()
    }
}

/// Two registered protocols have this name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DuplicateProtocol(pub ProtocolName);

impl fmt::Display for DuplicateProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two registered protocols are called {}", self.0)
    }
}

impl std::error::Error for DuplicateProtocol {}

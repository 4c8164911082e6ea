//! Conversations to try a parser with.

use wirespan_engine::Nanos;
use wirespan_parser_api::Direction;

/// Time between two chunks that give no time of their own.
const STEP: u64 = 1_000_000;

/// One connection, from its beginning: what each side sent, in capture order.
#[derive(Clone, Debug, Default)]
pub struct Fixture {
    chunks: Vec<Chunk>,
}

/// Some bytes that one side sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Chunk {
    /// Where to.
    pub dir: Direction,
    /// When they were captured.
    pub time: Nanos,
    /// The bytes; not empty.
    pub bytes: Vec<u8>,
}

impl Fixture {
    /// A connection on which nothing was said yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The client says something, a millisecond after what was said last.
    #[must_use]
    pub fn client(self, bytes: &[u8]) -> Self {
        let time = self.next_time();
        self.chunk(Direction::ToServer, time, bytes)
    }

    /// The server says something, a millisecond after what was said last.
    #[must_use]
    pub fn server(self, bytes: &[u8]) -> Self {
        let time = self.next_time();
        self.chunk(Direction::ToClient, time, bytes)
    }

    /// Somebody says something at `time`, which must not lie before what was said last. No bytes:
    /// nothing happens.
    #[must_use]
    pub fn chunk(mut self, dir: Direction, time: Nanos, bytes: &[u8]) -> Self {
        if !bytes.is_empty() {
            self.chunks.push(Chunk {
                dir,
                time,
                bytes: bytes.to_vec(),
            });
        }
        self
    }

    /// What was said, in order.
    #[must_use]
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Everything that was sent in one direction.
    #[must_use]
    pub fn stream(&self, dir: Direction) -> Vec<u8> {
        let chunks = self.chunks.iter().filter(|chunk| chunk.dir == dir);
        chunks.flat_map(|chunk| &chunk.bytes).copied().collect()
    }

    /// Bytes in both directions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.len()).sum()
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    fn next_time(&self) -> Nanos {
        let last = self
            .chunks
            .last()
            .map_or(STEP * 1_000, |chunk| chunk.time.0);
        Nanos(last + STEP)
    }
}

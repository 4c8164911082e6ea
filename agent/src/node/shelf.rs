//! Where recordings are kept that somebody asked a running agent for.
//!
//! The configuration names the folder and how much it may hold; whoever asks names neither folder nor
//! file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use wirespan_engine::Nanos;
use wirespan_export::record;
use wirespan_telemetry::Flow;

use super::log::Log;

/// What names of recordings begin and end with: nothing else in the folder counts.
const NAME: [&str; 2] = ["wirespan-", ".pcapng"];

/// A folder for recordings.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    /// Bytes of all recordings in it.
    most: u64,
}

/// A recording that is begun.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    file: File,
    /// Bytes that it may take.
    pub(super) room: u64,
}

impl Shelf {
    pub(super) fn new(folder: &str, most: u64) -> Self {
        let folder = PathBuf::from(folder);
        Self { folder, most }
    }

    /// A new file, named by the time, for its owner only.
    ///
    /// # Errors
    ///
    /// The folder is full, is not there, or takes none.
    pub(super) fn place(&self, now: Nanos) -> Result<Place, String> {
        let wrong = |error: io::Error| format!("{}: {error}", self.folder.display());
        let held = self.held().map_err(wrong)?;
        let room = self.most.saturating_sub(held);
        if room == 0 {
            return Err(format!(
                "{}: its recordings have {held} bytes, of {} that they may have",
                self.folder.display(),
                self.most
            ));
        }
        let time = record::rfc3339(now).replace([':', '-'], "");
        let path = self.folder.join(format!("{}{time}{}", NAME[0], NAME[1]));
        // One that is there is not overwritten, and no link is followed.
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(wrong)?;
        Ok(Place { path, file, room })
    }

    /// Bytes of the recordings that are there.
    fn held(&self) -> io::Result<u64> {
        let mut held = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(NAME[0]) && name.ends_with(NAME[1]) {
                // It may just have been taken away.
                held += entry.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Ok(held)
    }
}

impl Place {
    /// Nothing is to be recorded after all.
    pub(super) fn give_back(self) {
        // An empty file does no harm.
        let _ = fs::remove_file(&self.path);
    }

    /// Writes what comes, by a thread of its own, until it ends.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub(super) fn fill(self, flow: Flow, log: Log) -> io::Result<()> {
        let thread = thread::Builder::new().name("recording".to_owned());
        let fill = move || {
            if let Err(error) = write(&self.path, self.file, flow) {
                log.warn(&error);
            }
        };
        thread.spawn(fill).map(drop)
    }
}

/// Writes whole blocks: what does not fit is taken back.
fn write(path: &Path, mut file: File, mut flow: Flow) -> Result<(), String> {
    let mut whole = 0;
    while let Some(blocks) = flow.wait_part() {
        if let Err(error) = file.write_all(&blocks) {
            // Half a block would be damage. What cannot be cut is no file.
            let _ = file.set_len(whole);
            return Err(format!("cannot write {}: {error}", path.display()));
        }
        whole += blocks.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Nanos = Nanos(1_795_269_974_182_000_931);

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("wirespan-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    #[test]
    fn a_recording_has_a_name_by_its_time_and_is_for_its_owner() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = folder("shelf");
        let shelf = Shelf::new(folder.to_str().expect("UTF-8"), 100);
        let place = shelf.place(NOW).expect("room");
        let name = place.path.file_name().expect("a name");
        assert_eq!(name, "wirespan-20261121T140614.182000931Z.pcapng");
        let mode = fs::metadata(&place.path).expect("a file").permissions();
        assert_eq!((mode.mode() & 0o777, place.room), (0o600, 100));
        assert!(shelf.place(NOW).is_err(), "it is there already");
        place.give_back();
        assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 0);
        fs::remove_dir_all(folder).expect("removed");
    }

    #[test]
    fn what_is_there_counts_and_a_full_folder_takes_no_more() {
        let folder = folder("full");
        fs::write(folder.join("wirespan-old.pcapng"), [0; 60]).expect("written");
        fs::write(folder.join("other"), [0; 600]).expect("written");
        let shelf = |most| Shelf::new(folder.to_str().expect("UTF-8"), most);
        assert_eq!(shelf(100).place(NOW).expect("room").room, 40);
        let full = shelf(60).place(NOW).expect_err("full");
        assert!(
            full.ends_with("have 60 bytes, of 60 that they may have"),
            "{full}"
        );
        fs::remove_dir_all(&folder).expect("removed");
        assert!(shelf(100).place(NOW).is_err(), "no folder");
    }
}

//! The file system as the spool sees it: few calls, each of which a test can make fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A file system. Clones are the same one.
pub trait Files: Clone + Send + Sync + 'static {
    /// A file open for appending.
    type File: Append;

    /// Makes a directory and those above it; nothing when it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The files of a directory, in no order; directories are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>>;

    /// At most `max_bytes` bytes of a file from `offset` on; nothing past its end.
    fn read_at(&self, path: &Path, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>>;

    /// A file's first `max_bytes` bytes, or all of it.
    fn read(&self, path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
        self.read_at(path, 0, max_bytes)
    }

    /// Makes an empty file, in place of one that is there.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file that is there.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Gives a file another name, in place of a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; nothing when it is not there.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory's names durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file open for appending.
pub trait Append: Send + 'static {
    /// Appends all of `bytes`. After an error any part of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes the content durable. After an error, what was appended since the last success may be lost.
    fn sync(&mut self) -> io::Result<()>;

    /// Fills the file with zeros up to `length` bytes, durably; appends go where they would have gone, over the zeros. May do nothing:
    /// then appends make the file longer.
    fn reserve(&mut self, _length: u64) -> io::Result<()> {
        Ok(())
    }

    /// Cuts the file to `length` bytes; the next append goes there.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
}

/// A file of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name. Names that are no UTF-8 are not the spool's and are not listed.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// The machine's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    type File = File;

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                listed.push(Listed { name, bytes: metadata.len() });
            }
        }
        Ok(listed)
    }

    fn read_at(&self, path: &Path, offset: u64, max_bytes: usize) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let rest = file.metadata()?.len().saturating_sub(offset);
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(rest).unwrap_or(usize::MAX).min(max_bytes));
        file.take(max_bytes as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl Append for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn reserve(&mut self, length: u64) -> io::Result<()> {
        let end = self.stream_position()?;
        let zeros = vec![0; 256 * 1024];
        let mut missing = length.saturating_sub(end);
        while missing > 0 {
            let count = zeros.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
            self.write_all(&zeros[..count])?;
            missing -= count as u64;
        }
        self.sync_data()?;
        self.seek(SeekFrom::Start(end)).map(drop)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.seek(SeekFrom::Start(length)).map(drop)
    }
}

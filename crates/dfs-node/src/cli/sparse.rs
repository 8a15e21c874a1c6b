//! Files with holes: what was never written is not read, and what is only zeros is not written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// Reads a file from its beginning. Holes give zeros without being read.
#[derive(Debug)]
pub(super) struct Holey {
    file: File,
    at: u64,
    /// Where the stretch ends that `at` is in, and whether it is a hole.
    stretch: Option<(u64, bool)>,
    /// The length that the file had; what comes after it has no map.
    bytes: u64,
}

impl Holey {
    /// A regular file of this length.
    pub(super) fn new(file: File, bytes: u64) -> Self {
        Self { file, at: 0, stretch: None, bytes }
    }

    /// The stretch that `at` is in. Without a map, as of a file system that has none, all is data.
    fn stretch(&mut self) -> (u64, bool) {
        if let Some(stretch) = self.stretch.filter(|(end, _)| self.at < *end) {
            return stretch;
        }
        let next = |what| seek(&self.file, what).ok().filter(|place| *place > self.at);
        let stretch = match seek(&self.file, SeekFrom::Data(self.at)) {
            Ok(data) if data > self.at => (data.min(self.bytes), true),
            Ok(_) => (next(SeekFrom::Hole(self.at)).unwrap_or(u64::MAX), false),
            // There is no data after this.
            Err(Errno::NXIO) if self.at < self.bytes => (self.bytes, true),
            Err(_) => (u64::MAX, false),
        };
        self.stretch = Some(stretch);
        stretch
    }
}

impl Read for Holey {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let (end, is_hole) = self.stretch();
        let room = usize::try_from(end - self.at).map_or(out.len(), |left| left.min(out.len()));
        let read = if is_hole {
            out[..room].fill(0);
            room
        } else {
            self.file.read_at(&mut out[..room], self.at)?
        };
        self.at += read as u64;
        Ok(read)
    }
}

/// Writes a new file from its beginning. Aligned blocks that are all zeros become holes.
#[derive(Debug, Default)]
pub(super) struct HoleMaker {
    at: u64,
    /// The block under way, which begins at `at`.
    block: Vec<u8>,
}

impl HoleMaker {
    /// Takes what comes next.
    pub(super) fn write(&mut self, file: &File, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            bytes = later;
            if now.len() == BLOCK_BYTES {
                Self::put(file, now, self.at)?;
                self.at += now.len() as u64;
                continue;
            }
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK_BYTES {
                self.flush(file)?;
            }
        }
        Ok(())
    }

    /// Writes what is left and gives the file its length.
    pub(super) fn finish(&mut self, file: &File) -> io::Result<()> {
        self.flush(file)?;
        file.set_len(self.at)
    }

    fn flush(&mut self, file: &File) -> io::Result<()> {
        Self::put(file, &self.block, self.at)?;
        self.at += self.block.len() as u64;
        self.block.clear();
        Ok(())
    }

    fn put(file: &File, block: &[u8], at: u64) -> io::Result<()> {
        let is_hole = block.len() == BLOCK_BYTES && block.iter().all(|byte| *byte == 0);
        if is_hole { Ok(()) } else { file.write_all_at(block, at) }
    }
}

/// Smaller holes would scatter a file over the disk for little.
const BLOCK_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const BLOCK: u64 = BLOCK_BYTES as u64;

    /// What it holds, and how often the file was read from.
    fn read(file: &File, bytes: u64, chunk: usize) -> (Vec<u8>, u64) {
        let mut holey = Holey::new(file.try_clone().unwrap(), bytes);
        let (mut all, mut buffer, mut from_holes) = (Vec::new(), vec![9; chunk], 0);
        loop {
            let is_hole = holey.stretch().1;
            let read = holey.read(&mut buffer).unwrap();
            if read == 0 {
                return (all, from_holes);
            }
            from_holes += if is_hole { read as u64 } else { 0 };
            all.extend_from_slice(&buffer[..read]);
        }
    }

    #[test]
    fn holes_are_zeros_that_nobody_reads() {
        for data in [&[0, 3][..], &[1], &[], &[0, 1, 2, 3, 4], &[4]] {
            let file = tempfile::tempfile().unwrap();
            let bytes = 4 * BLOCK + 100;
            file.set_len(bytes).unwrap();
            let mut expected = vec![0; usize::try_from(bytes).unwrap()];
            for block in data {
                let at = block * BLOCK;
                file.write_all_at(&[7; 100], at).unwrap();
                let at = usize::try_from(at).unwrap();
                expected[at..at + 100].fill(7);
            }
            file.sync_all().unwrap();
            for chunk in [1000, 65_536, 1 << 20] {
                let (all, from_holes) = read(&file, bytes, chunk);
                assert!(all == expected, "{data:?} {chunk}");
                let has_map = file.metadata().unwrap().blocks() * 512 < bytes;
                assert!(!has_map || data.len() == 5 || from_holes >= BLOCK, "{data:?}");
            }
        }
    }

    #[test]
    fn a_file_that_grows_or_shrinks_is_read_to_its_end() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * BLOCK).unwrap();
        file.write_all_at(b"end", 3 * BLOCK).unwrap();
        // Announced shorter than it is.
        let (all, _) = read(&file, 3 * BLOCK, 1000);
        assert!(all.len() as u64 == 3 * BLOCK + 3 && all.ends_with(b"\0end"));
        let mut holey = Holey::new(file.try_clone().unwrap(), 3 * BLOCK + 3);
        assert_eq!(holey.read(&mut [0; 10]).unwrap(), 10);
        file.set_len(10).unwrap();
        holey.stretch = None;
        let mut rest = Vec::new();
        holey.read_to_end(&mut rest).unwrap();
        assert!(rest.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn aligned_zeros_become_holes_and_the_content_stays() {
        let big = usize::try_from(8 * BLOCK).unwrap();
        let mut content = vec![0; big + 77];
        content[3 * BLOCK_BYTES + 5] = 1;
        for len in [0, 1, BLOCK_BYTES, big, big + 77] {
            for chunk in [1, 1000, BLOCK_BYTES, 5 * BLOCK_BYTES + 1] {
                let content = &content[..len];
                if chunk == 1 && len > BLOCK_BYTES {
                    continue;
                }
                let file = tempfile::tempfile().unwrap();
                let mut maker = HoleMaker::default();
                content.chunks(chunk).for_each(|part| maker.write(&file, part).unwrap());
                maker.finish(&file).unwrap();
                let mut all = vec![9; len];
                file.read_exact_at(&mut all, 0).unwrap();
                let found = file.metadata().unwrap();
                assert!(all == content && found.len() == len as u64, "{len} {chunk}");
                assert!(found.blocks() * 512 <= 2 * BLOCK + 8192, "{len} {chunk}");
            }
        }
    }
}

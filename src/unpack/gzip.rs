//! Gzip: one document, in one or several members one after the other.
//!
//! Must never need the end of the file: it is read as it streams.

use super::limits::{Counted, Metered};
use super::{Place, UnpackError, Walk};
use flate2::bufread::GzDecoder;
use std::cell::Cell;
use std::io::{self, BufRead, Read};

pub(super) fn walk<E>(
    walk: &mut Walk<'_, E>,
    packed: &mut dyn BufRead,
    place: &Place,
) -> Result<(), UnpackError<E>> {
    if let Err(broken) = walk.meter.entry() {
        return walk.rejected(&place.path, broken);
    }
    let count = Cell::new(0);
    let members = Members { decoder: Some(GzDecoder::new(Counted { inner: packed, count: &count })) };
    let inside = place.inside(name_inside(&place.name));
    walk.stream(&mut Metered::new(members, walk.meter, &count), &inside, None)
}

/// The name without `.gz`, as gunzip makes it.
fn name_inside(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    let ending = [".gz", ".gzip"].into_iter().find_map(|ending| {
        let place = file.len().checked_sub(ending.len()).filter(|place| *place > 0)?;
        file.get(place..)?.eq_ignore_ascii_case(ending).then_some(place)
    });
    &file[..ending.unwrap_or(file.len())]
}

/// All members as one stream. Zeros behind the last one are padding of tapes and mainframes.
struct Members<R: BufRead> {
    /// `None` after the end.
    decoder: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let n = decoder.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            if more(decoder.get_mut())? {
                self.decoder = self.decoder.take().map(|decoder| GzDecoder::new(decoder.into_inner()));
            } else {
                self.decoder = None;
            }
        }
        Ok(0)
    }
}

/// Whether another member follows.
fn more(rest: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let buffer = rest.fill_buf()?;
        match buffer.first() {
            None => return Ok(false),
            Some(0x1f) => return Ok(true),
            Some(0) => {
                let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
                rest.consume(zeros);
            }
            Some(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "something follows the gzip data"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::name_inside;

    #[test]
    fn the_name_inside() {
        assert_eq!(name_inside("Master.csv.gz"), "Master.csv");
        assert_eq!(name_inside("a/b.CSV.GZ"), "b.CSV");
        assert_eq!(name_inside(".gz"), ".gz");
        assert_eq!(name_inside("ä"), "ä");
        assert_eq!(name_inside(""), "");
    }
}

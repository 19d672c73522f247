//! How a body is coded: gzip and deflate, by flate2, and br, by brotli-decompressor.

use brotli_decompressor::Decompressor;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper::header::CONTENT_ENCODING;
use std::io::{self, Read};

/// What a request asks for: all that is decoded here.
pub const ACCEPTED: &str = "gzip, deflate, br";

const BROTLI_BUFFER: usize = 4096;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    Gzip,
    Deflate,
    Brotli,
}

#[derive(Debug)]
pub enum Undecodable {
    /// The limit of bytes.
    TooLarge(usize),
    Broken(Coding, io::Error),
}

/// The codings of a body, in the order in which they were applied; none if one is unknown: then
/// it is given as it came.
pub fn codings(headers: &HeaderMap) -> Vec<Coding> {
    let given = headers.get_all(CONTENT_ENCODING).into_iter();
    let names = given.flat_map(|value| value.to_str().unwrap_or("?").split(','));
    let known = names.map(|name| match name.trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Some(Some(Coding::Gzip)),
        "deflate" => Some(Some(Coding::Deflate)),
        "br" => Some(Some(Coding::Brotli)),
        "identity" | "" => Some(None),
        _ => None,
    });
    let known: Option<Vec<Option<Coding>>> = known.collect();
    known.unwrap_or_default().into_iter().flatten().collect()
}

/// Decodes a body, of which there may be so many bytes in the end, and at each step.
pub fn decode(
    mut body: Bytes,
    codings: &[Coding],
    largest: Option<usize>,
) -> Result<Bytes, Undecodable> {
    for &coding in codings.iter().rev() {
        if body.is_empty() {
            break; // of an answer that has none
        }
        let source: Box<dyn Read + '_> = match coding {
            Coding::Gzip => Box::new(MultiGzDecoder::new(&body[..])),
            Coding::Deflate if has_zlib_header(&body) => Box::new(ZlibDecoder::new(&body[..])),
            Coding::Deflate => Box::new(DeflateDecoder::new(&body[..])),
            Coding::Brotli => Box::new(Decompressor::new(&body[..], BROTLI_BUFFER)),
        };
        let mut decoded = Vec::new();
        let most = largest.map_or(u64::MAX, |largest| largest as u64 + 1);
        source
            .take(most)
            .read_to_end(&mut decoded)
            .map_err(|error| Undecodable::Broken(coding, error))?;
        if let Some(largest) = largest.filter(|largest| decoded.len() > *largest) {
            return Err(Undecodable::TooLarge(largest));
        }
        body = decoded.into();
    }
    Ok(body)
}

/// By the standard deflate has zlib's header; some servers leave it out.
fn has_zlib_header(body: &[u8]) -> bool {
    matches!(body, [first, second, ..]
        if first & 15 == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::read::{DeflateEncoder, GzEncoder, ZlibEncoder};

    fn all(mut source: impl Read) -> Bytes {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).unwrap();
        bytes.into()
    }

    #[test]
    fn what_was_coded_is_decoded() {
        let text = b"to be or not to be ".repeat(100);
        let level = Compression::default();
        let gzip = all(GzEncoder::new(&text[..], level));
        let zlib = all(ZlibEncoder::new(&text[..], level));
        let raw = all(DeflateEncoder::new(&text[..], level));
        let both = all(GzEncoder::new(&zlib[..], level));
        let twice = Bytes::from([&gzip[..], &gzip[..]].concat());
        // What Google's encoder makes of it.
        let brotli = Bytes::from_static(
            b"\x1bk\x07\xf8\x8d\xd4Nws\xa6\xa2\x04\x91\xa3\xeb71\xb7\xb2E\x90a\xd5\x80\x08\x9eFnN\x1c",
        );
        use Coding::{Brotli, Deflate, Gzip};
        for (body, codings) in [
            (&gzip, &[Gzip][..]),
            (&zlib, &[Deflate]),
            (&brotli, &[Brotli]),
            (&raw, &[Deflate]),
            (&both, &[Deflate, Gzip]),
        ] {
            assert_eq!(decode(body.clone(), codings, Some(text.len())).unwrap(), text);
        }
        assert_eq!(decode(twice, &[Gzip], None).unwrap().len(), text.len() * 2);
        let bomb = decode(gzip.clone(), &[Gzip], Some(text.len() - 1));
        assert!(matches!(bomb, Err(Undecodable::TooLarge(_))));
        for broken in [gzip.slice(..gzip.len() - 9), Bytes::from_static(b"no gzip")] {
            assert!(matches!(decode(broken, &[Gzip], None), Err(Undecodable::Broken(Gzip, _))));
        }
        for broken in [brotli.slice(..20), Bytes::from_static(b"no brotli")] {
            assert!(matches!(decode(broken, &[Brotli], None), Err(Undecodable::Broken(Brotli, _))));
        }
        assert!(decode(Bytes::new(), &[Gzip], None).unwrap().is_empty());
    }

    #[test]
    fn codings_are_read_from_the_headers() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().unwrap());
            }
            codings(&headers)
        };
        assert_eq!(read(&["deflate, X-GZip"]), [Coding::Deflate, Coding::Gzip]);
        assert_eq!(read(&["deflate", "identity", "gzip"]), [Coding::Deflate, Coding::Gzip]);
        assert_eq!(read(&["br"]), [Coding::Brotli]);
        assert!(read(&["gzip, zstd"]).is_empty() && read(&[]).is_empty());
    }
}

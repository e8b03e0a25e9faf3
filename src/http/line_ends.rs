//! Checks that lines of a request's head end in CR LF.
//!
//! hyper's parser accepts a bare LF as the end of a line, as RFC 9112 permits. A proxy in front that does
//! not, and passes the LF inside a value, sees other headers than the server behind it, and requests can be
//! smuggled. So this module reads the bytes before hyper does. If a line of a head ends in a bare LF, it
//! replaces that LF by a NUL, which makes hyper respond with 400 and close the connection.
//!
//! hyper alone decides about requests. This module parses their framing only to distinguish heads from
//! bodies, exactly as hyper does and however the bytes are split into reads. If it parsed differently, a
//! request would be refused or a line end overlooked, and nothing worse.

/// The maximum length of a line of a head, above hyper's own maximum of a whole head: hyper refuses longer
/// ones.
pub(super) const LONGEST_LINE: usize = 64 * 1024;

/// The state of one connection's bytes, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct LineEnds {
    state: State,
    /// The beginning of a head's line whose end has not arrived yet.
    line: Vec<u8>,
    /// The byte before the next one, if both are in lines.
    last: u8,
    has_request_line: bool,
    body: Framing,
    chunk_size: ChunkSize,
    trailer: Trailer,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Head,
    /// The remaining bytes of a body.
    Body(u64),
    /// The line with a chunk's size.
    ChunkSize,
    /// The remaining bytes of a chunk, including the line end after it.
    Chunk(u64),
    Trailers,
    /// hyper refuses its input and closes the connection.
    Refused,
}

/// The size of a chunk, parsed while its digits arrive: their number is not limited.
#[derive(Debug, Default, Clone, Copy)]
struct ChunkSize {
    size: Option<u64>,
    has_ended: bool,
}

/// The current line of the trailers.
#[derive(Debug, Default, Clone, Copy)]
struct Trailer {
    /// The number of its bytes so far, without the line feed that ends it.
    length: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Framing {
    length: u64,
    is_chunked: bool,
}

impl LineEnds {
    /// Reads the bytes that have arrived, and invalidates a head in which a line ends in a bare LF.
    pub(super) fn scan(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let seen = match &mut self.state {
                State::Refused => return,
                State::Body(left) | State::Chunk(left) => {
                    let seen = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= seen as u64;
                    if *left == 0 {
                        let is_chunk = matches!(self.state, State::Chunk(_));
                        self.state = if is_chunk { State::ChunkSize } else { State::Head };
                    }
                    self.last = 0;
                    seen
                }
                State::Head | State::ChunkSize | State::Trailers => self.look_at_line(bytes),
            };
            bytes = &mut bytes[seen..];
        }
    }

    /// Reads a line or a part of one, and returns its length.
    fn look_at_line(&mut self, bytes: &mut [u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let seen = end.map_or(bytes.len(), |end| end + 1);
        let part = &bytes[..end.unwrap_or(seen)];
        let before = part.last().copied().unwrap_or(self.last);
        self.last = bytes[seen - 1];
        let is_end = end.is_some();
        let has_bare_end = is_end && before != b'\r';
        match self.state {
            State::Head if has_bare_end || self.line.len() + part.len() > LONGEST_LINE => {
                bytes[seen - 1] = 0;
                self.state = State::Refused;
                return bytes.len();
            }
            State::Head if is_end && self.line.is_empty() => self.end_head_line(part),
            State::Head => {
                self.line.extend_from_slice(part);
                if is_end {
                    let line = std::mem::take(&mut self.line);
                    self.end_head_line(&line);
                }
            }
            State::ChunkSize => {
                self.chunk_size.read(part);
                if is_end {
                    // hyper refuses a line without a size, or with a bare line feed.
                    let size = std::mem::take(&mut self.chunk_size).size.unwrap_or(u64::MAX);
                    self.state =
                        if size == 0 { State::Trailers } else { State::Chunk(size.saturating_add(2)) };
                }
            }
            // For hyper, a bare line feed is a part of the line.
            State::Trailers if !is_end || has_bare_end => self.trailer.length += seen as u64,
            State::Trailers => {
                let length = std::mem::take(&mut self.trailer).length + part.len() as u64;
                // The carriage return alone.
                if length == 1 {
                    self.state = State::Head;
                }
            }
            State::Body(_) | State::Chunk(_) | State::Refused => {}
        }
        seen
    }

    fn end_head_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            // Empty lines before a request are skipped.
            if std::mem::take(&mut self.has_request_line) {
                let Framing { length, is_chunked } = std::mem::take(&mut self.body);
                self.state = match (is_chunked, length) {
                    (true, _) => State::ChunkSize,
                    (false, 0) => State::Head,
                    (false, length) => State::Body(length),
                };
            }
        } else if self.has_request_line {
            self.body.read(line);
        } else {
            self.has_request_line = true;
        }
    }
}

impl ChunkSize {
    fn read(&mut self, part: &[u8]) {
        for byte in part {
            match char::from(*byte).to_digit(16) {
                Some(digit) if !self.has_ended => {
                    let before = self.size.unwrap_or_default();
                    // hyper refuses a size that is too large.
                    self.size = Some(before.saturating_mul(16).saturating_add(digit.into()));
                }
                _ => {
                    self.has_ended = true;
                    return;
                }
            }
        }
    }
}

impl Framing {
    /// Parses a header line that determines the length of the body, and ignores others.
    fn read(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            self.length = length.unwrap_or_default();
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = value.len() >= 7 && value[value.len() - 7..].eq_ignore_ascii_case(b"chunked");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the bytes that hyper gets for these parts.
    fn passed(parts: &[&[u8]]) -> Vec<u8> {
        let mut line_ends = LineEnds::default();
        let mut passed = Vec::new();
        for part in parts {
            let mut part = part.to_vec();
            line_ends.scan(&mut part);
            passed.extend(part);
        }
        passed
    }

    const GOOD: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-LENGTH: 6\r\n\r\n{\n\n}\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n3;x=y\r\na\nb\r\nA\r\n0123\n56\n89\r\n0\r\nT: v\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    ];

    #[test]
    fn a_bare_line_feed_in_a_head_never_passes() {
        for request in GOOD {
            let bytes = request.as_bytes();
            assert_eq!(passed(&[bytes]), bytes, "{request:?}");
        }
        for head in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            for before in [""].iter().chain(GOOD) {
                let all = format!("{before}{head}");
                let got = passed(&[all.as_bytes()]);
                let spoilt = got.iter().position(|byte| *byte == 0);
                assert!(spoilt.is_some_and(|at| at >= before.len()), "{all:?} {got:?}");
            }
        }
    }

    /// A request that hyper frames so, with lines of any length in every place where hyper allows them.
    fn request() -> impl Strategy<Value = Vec<u8>> {
        let body =
            prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'0'), any::<u8>()], 0..40);
        let padding = || prop_oneof![3 => 0..3_usize, 1 => 480..1200_usize];
        let whole = (padding(), body.clone()).prop_map(|(spaces, body)| {
            let (spaces, length) = (" ".repeat(spaces), body.len());
            let head =
                format!("POST / HTTP/1.1\r\nX: y\r\nContent-Length:{spaces}{length}\r\nHost: a\r\n\r\n");
            [head.into_bytes(), body].concat()
        });
        let trailer =
            prop::sample::select(&["", "T: v\r\n", "T: v\n\r\nU: w\r\n", "T: v\n\nU: w\r\n", "\nT: v\r\n"]);
        let chunks = prop::collection::vec((padding(), padding(), body), 0..3);
        let chunked = (padding(), chunks, padding(), trailer).prop_map(|(spaces, chunks, zeros, trailer)| {
            let (spaces, zeros) = ("gzip, ".repeat(spaces / 6), "0".repeat(zeros));
            let mut request =
                format!("POST / HTTP/1.1\r\nTransfer-Encoding: {spaces}chunked\r\n\r\n").into_bytes();
            for (zeros, extension, chunk) in chunks.iter().filter(|(.., chunk)| !chunk.is_empty()) {
                let (zeros, extension) = ("0".repeat(*zeros), ";".repeat(*extension));
                request.extend_from_slice(format!("{zeros}{:x}{extension}\r\n", chunk.len()).as_bytes());
                request.extend_from_slice(chunk);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(format!("0{zeros}\r\n{trailer}\r\n").as_bytes());
            request
        });
        let long = padding().prop_map(|length| {
            format!("\r\nGET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(length)).into_bytes()
        });
        prop_oneof![whole, chunked, long]
    }

    /// The bytes in parts, cut at these places.
    fn parts<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
    }

    proptest! {
        #[test]
        fn the_chunking_of_the_bytes_changes_nothing(
            requests in prop::collection::vec(request(), 1..4),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let good = requests.concat();
            prop_assert_eq!(&passed(&parts(&good, &cuts)), &good);
            let single: Vec<&[u8]> = good.chunks(1).collect();
            prop_assert_eq!(&passed(&single), &good);
            // The next head is known as one, and its bare line feed is found.
            let all = [&good, b"GET / HTTP/1.1\nHost: a\r\n\r\n".as_slice()].concat();
            let spoilt = passed(&parts(&all, &cuts));
            prop_assert_eq!(&spoilt[..good.len()], &good);
            prop_assert!(spoilt[good.len()..].contains(&0));
        }
    }

    #[test]
    fn a_body_that_ends_in_a_carriage_return_does_not_begin_the_end_of_a_line() {
        let (body, head) = ("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n\r", "\nGET / HTTP/1.1\r\n\r\n");
        for cut in 0..body.len() + head.len() {
            let all = format!("{body}{head}");
            let got = passed(&[&all.as_bytes()[..cut], &all.as_bytes()[cut..]]);
            assert_eq!(got.iter().position(|byte| *byte == 0), Some(body.len()), "{cut}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_for_hyper_is_refused() {
        assert!(LONGEST_LINE > 2 * crate::http::limits::Limits::default().header_bytes);
        let long = vec![b'a'; LONGEST_LINE + 1];
        assert!(passed(&[&long]).contains(&0));
        assert!(passed(&long.chunks(1000).collect::<Vec<_>>()).contains(&0));
    }
}

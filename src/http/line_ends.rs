//! Checks that lines of a request's head end in CR LF.
//!
//! hyper's parser accepts a bare LF as the end of a line, as RFC 9112 permits. A proxy in front that does
//! not, and passes the LF inside a value, sees other headers than the server behind it, and requests can be
//! smuggled. So this module reads the bytes before hyper does. If a line of a head ends in a bare LF, it
//! replaces that LF by a NUL, which makes hyper respond with 400 and close the connection.
//!
//! hyper alone decides about requests. This module parses their framing only to distinguish heads from
//! bodies. If it parsed differently, a request would be refused or a line end overlooked, and nothing worse.

/// The maximum length of a line that is kept. Longer lines do not affect the length of a body.
const LONGEST_LINE: usize = 512;

/// The state of one connection's bytes, in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct LineEnds {
    state: State,
    /// The beginning of a line whose end has not arrived yet.
    line: Vec<u8>,
    /// The byte before the next one.
    last: u8,
    has_request_line: bool,
    body: Framing,
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

#[derive(Debug, Default, Clone, Copy)]
struct Framing {
    length: u64,
    is_chunked: bool,
}

impl LineEnds {
    /// Reads the bytes that have arrived, and invalidates a head in which a line ends in a bare LF.
    pub(super) fn look_at(&mut self, mut bytes: &mut [u8]) {
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
                    seen
                }
                State::Head | State::ChunkSize | State::Trailers => self.look_at_line(bytes),
            };
            if let Some(last) = seen.checked_sub(1).and_then(|at| bytes.get(at)) {
                self.last = *last;
            }
            bytes = &mut bytes[seen..];
        }
    }

    /// Reads a line or a part of one, and returns its length.
    fn look_at_line(&mut self, bytes: &mut [u8]) -> usize {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.keep(bytes);
            return bytes.len();
        };
        let before = end.checked_sub(1).map_or(self.last, |at| bytes[at]);
        if before != b'\r' && matches!(self.state, State::Head) {
            bytes[end] = 0;
            self.state = State::Refused;
            return bytes.len();
        }
        if self.line.is_empty() {
            self.end_line(&bytes[..end]);
        } else {
            self.keep(&bytes[..end]);
            let line = std::mem::take(&mut self.line);
            self.end_line(&line);
        }
        end + 1
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LONGEST_LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.state {
            State::Head if line.is_empty() && self.has_request_line => {
                let Framing { length, is_chunked } = std::mem::take(&mut self.body);
                self.has_request_line = false;
                self.state = match (is_chunked, length) {
                    (true, _) => State::ChunkSize,
                    (false, 0) => State::Head,
                    (false, length) => State::Body(length),
                };
            }
            // Empty lines before a request are skipped.
            State::Head if line.is_empty() => {}
            State::Head if self.has_request_line => self.body.read(line),
            State::Head => self.has_request_line = true,
            State::ChunkSize => {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let size = std::str::from_utf8(&line[..digits]).ok();
                let size = size.and_then(|size| u64::from_str_radix(size, 16).ok()).unwrap_or(u64::MAX);
                self.state = if size == 0 { State::Trailers } else { State::Chunk(size.saturating_add(2)) };
            }
            State::Trailers if line.is_empty() => self.state = State::Head,
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Refused => {}
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
            line_ends.look_at(&mut part);
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

    proptest! {
        #[test]
        fn how_the_bytes_arrive_changes_nothing(
            chosen in prop::sample::select(GOOD),
            is_spoilt: bool,
            cuts in prop::collection::vec(0_usize..200, 0..6),
        ) {
            let all = if is_spoilt { format!("{chosen}GET / HTTP/1.1\nHost: a\r\n\r\n") } else { chosen.to_owned() };
            let bytes = all.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < bytes.len()).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(passed(&parts).contains(&0), is_spoilt);
        }
    }
}

//! Mutations that keep JSON JSON. libFuzzer's own, by bytes, break it nearly every time.

/// The contract's names, and some that are none.
const NAMES: [&str; 24] = [
    "id",
    "name",
    "api_version",
    "created_at",
    "attempt_total",
    "attempts_total",
    "attempt_number",
    "notification_task_id",
    "data",
    "phone",
    "user_id",
    "campaign_code",
    "additional_data",
    "reason",
    "label",
    "additional_text",
    "short_link_code",
    "unsubscribe_request_id",
    "group_id",
    "$serde_json::private::RawValue",
    "$serde_json::private::Number",
    r"\ud800",
    "unknown",
    "",
];

/// Values at the edges of the contract's rules.
const VALUES: [&str; 56] = [
    "null",
    "true",
    "[]",
    "{}",
    "[[],{}]",
    r#"[4,"label"]"#,
    r#""""#,
    r#""phone.unsubscribe""#,
    r#""phone.subscribe""#,
    r#""\ud800""#,
    r#""\ud83d\ude00""#,
    r#""\u0000\"\\\/\b\f\n\r\t""#,
    r#""ef58b437-1319-4b0c-961b-17214cf1cf32""#,
    r#""EF58B437-1319-4B0C-961B-17214CF1CF32""#,
    r#""ef58b43713194b0c961b17214cf1cf32""#,
    r#""{ef58b437-1319-4b0c-961b-17214cf1cf32}""#,
    r#""urn:uuid:ef58b437-1319-4b0c-961b-17214cf1cf32""#,
    r#""ef58b4371-319-4b0c-961b-17214cf1cf32""#,
    "0",
    "-0",
    "0.0",
    "-0.0e-0",
    "0e99999999999999999999",
    "1",
    "1.0",
    "1e0",
    "10e-1",
    "0.1E+1",
    "1000000000000000000000e-21",
    "2",
    "2.5",
    "3",
    "4",
    "4.0",
    "5",
    "6",
    "7",
    "-1",
    "1e18",
    "1e999999999999999999999",
    "1e-999999999999999999999",
    "9007199254740991.0",
    "9007199254740992",
    "9007199254740992.0",
    "9007199254740992.5",
    "9007199254740993.0",
    "-9007199254740993e0",
    "9223372036854775807",
    "9223372036854775808",
    "9223372036854775807.0",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "01",
    "1.",
];

/// Small numbers out of a seed, enough to choose by.
pub struct Choices(u64);

impl Choices {
    pub fn new(seed: u32) -> Self {
        Self(u64::from(seed) << 1 | 1)
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 32).unwrap_or(0) % limit
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// A body with one to four changes to its values and members.
pub fn json(body: &[u8], choices: &mut Choices) -> Vec<u8> {
    let mut tokens = tokens(body);
    for _ in 0..=choices.below(4) {
        if tokens.is_empty() {
            tokens.push(b"{}".to_vec());
        }
        change(&mut tokens, choices);
    }
    tokens.concat()
}

fn change(tokens: &mut Vec<Vec<u8>>, choices: &mut Choices) {
    let at = choices.below(tokens.len());
    let span = at..end_of_span(tokens, at);
    match choices.below(8) {
        0 | 1 => drop(tokens.splice(span, [choices.of(&VALUES).into()])),
        2 if tokens[at].starts_with(b"\"") => {
            tokens[at] = format!("\"{}\"", choices.of(&NAMES)).into();
        }
        2 => {
            let member = format!("\"{}\":{},", choices.of(&NAMES), choices.of(&VALUES));
            if tokens[at] == b"{" {
                tokens.insert(at + 1, member.into());
            }
        }
        3 => drop(tokens.splice(span, [])),
        4 => {
            let copy: Vec<_> = tokens[span].to_vec();
            let to = choices.below(tokens.len() + 1);
            tokens.splice(to..to, copy);
        }
        5 => {
            let other = choices.below(tokens.len());
            tokens.swap(at, other);
        }
        6 => escape(&mut tokens[at], choices),
        _ => tokens.insert(at, choices.of(&[" ", "\n", "\t\r", ",", "[", "]", "{", "}"]).into()),
    }
}

/// Spells a character of a string by its number.
fn escape(token: &mut Vec<u8>, choices: &mut Choices) {
    if token.len() > 2 && token[0] == b'"' {
        let at = 1 + choices.below(token.len() - 2);
        if token[at].is_ascii_alphanumeric() || b".-_ ".contains(&token[at]) {
            let escaped = format!("\\u{:04x}", token[at]);
            token.splice(at..=at, escaped.into_bytes());
        }
    }
}

/// The end of the value that starts here, or of the member whose name stands here.
fn end_of_span(tokens: &[Vec<u8>], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token[..] {
            [b'{' | b'['] => depth += 1,
            [b'}' | b']'] => depth = depth.saturating_sub(1),
            _ => {}
        }
        let names_a_member = tokens.get(index + 1).is_some_and(|next| next == b":");
        if depth == 0 && token != b":" && !(token.starts_with(b"\"") && names_a_member) {
            return index + 1;
        }
    }
    tokens.len()
}

/// Strings, words, and single bytes; of text that is no JSON too.
fn tokens(body: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = body;
    let mut tokens = Vec::new();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    while let Some(first) = rest.first() {
        let length = match first {
            b'"' => string_length(rest),
            word if is_word(word) => rest.iter().take_while(|byte| is_word(byte)).count(),
            _ => 1,
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token.to_vec());
        rest = after;
    }
    tokens
}

fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    for (index, byte) in text.iter().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return index + 1,
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

/// Header lines that change what a request is.
const LINES: [&str; 18] = [
    "Host: a",
    "X-LOX24-Token: correct-horse-7",
    "x-lox24-token: correct-horse-8",
    "x-lox24-token: correct-",
    "X-LOX24-Token:",
    "X-LOX24-TOKEN:correct-horse-7 ",
    "X-LOX24-Token: correct-\u{e4}",
    "Content-Type: application/json",
    "content-type: APPLICATION/JSON ; charset=utf-8",
    "Content-Type: text/plain",
    "Content-Length: 0",
    "Content-Length: 18446744073709551616",
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: upgrade",
    "Upgrade: websocket",
];

const FIRST_LINES: [&str; 10] = [
    "POST /webhooks/unsubscribe HTTP/1.1",
    "POST /webhooks/unsubscribe?a=b HTTP/1.0",
    "POST /webhooks/lox24 HTTP/1.1",
    "POST /open HTTP/1.1",
    "POST http://a/webhooks/unsubscribe HTTP/1.1",
    "GET /webhooks/unsubscribe HTTP/1.1",
    "HEAD /webhooks/unsubscribe HTTP/1.1",
    "OPTIONS * HTTP/1.1",
    "CONNECT a:1 HTTP/1.1",
    "POST /nowhere HTTP/1.1",
];

/// A connection's bytes with changes to its last request: to a line of its head, to its body, to the
/// way the body is framed.
pub fn request(sent: &[u8], choices: &mut Choices) -> Vec<u8> {
    const BLANK_LINE: &[u8] = b"\r\n\r\n";
    let is_blank_line = |at: &usize| sent[*at..].starts_with(BLANK_LINE);
    let Some(end) = (0..sent.len()).rev().find(is_blank_line) else { return sent.to_vec() };
    let start =
        (0..end.saturating_sub(3)).rev().find(is_blank_line).map_or(0, |at| at + BLANK_LINE.len());
    let (before, head, body) = (&sent[..start], &sent[start..end], &sent[end + 4..]);

    let mut lines: Vec<Vec<u8>> = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line).to_vec())
        .collect();
    let at = choices.below(lines.len());
    match choices.below(8) {
        0 => lines[0] = choices.of(&FIRST_LINES).into(),
        1 => lines.insert(at + 1, choices.of(&LINES).into()),
        2 if at > 0 => lines[at] = choices.of(&LINES).into(),
        3 if at > 0 => drop(lines.remove(at)),
        4 => lines.insert(at + 1, lines[at].clone()),
        _ => {}
    }
    let mut body = if choices.below(2) == 0 { json(body, choices) } else { body.to_vec() };
    let names = |line: &[u8], name: &str| {
        line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
    };
    match choices.below(4) {
        // The length as it is.
        0 | 1 => {
            lines
                .retain(|line| !names(line, "content-length") && !names(line, "transfer-encoding"));
            lines.push(format!("Content-Length: {}", body.len()).into());
        }
        2 if choices.below(3) == 0 => {
            lines
                .retain(|line| !names(line, "content-length") && !names(line, "transfer-encoding"));
            lines.push(b"Transfer-Encoding: chunked".into());
            body = chunked(&body, 1 + choices.below(body.len() + 1));
        }
        _ => {}
    }
    [before, &lines.join(&b"\r\n"[..]), BLANK_LINE, &body].concat()
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut chunked = Vec::new();
    for chunk in body.chunks(size) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    chunked
}

//! Mutations that keep JSON JSON, most of the time. libFuzzer's own, by bytes, break it nearly always.

/// The contract's names, and others.
const NAMES: &str = concat!(
    include_str!("../../../fuzz/seeds/decode/every-field.json"),
    r#"{"unknown":0,"\ud800":0,"#,
    r#""$serde_json::private::RawValue":0,"$serde_json::private::Number":0}"#,
);

/// Values at the edges of the contract's rules.
const VALUES: &str = concat!(
    r#"null null null true [] {} [[],{}] [4,"label"] {"id":1,"id":2} {"\ud800":0} "" "\ud800" "#,
    r#""phone.unsubscribe" "phone.subscribe" "\ud83d\ude00" "\u0000\"\\\/\b\f\n\r\t" "#,
    r#""ef58b437-1319-4b0c-961b-17214cf1cf32" "EF58B437-1319-4B0C-961B-17214CF1CF32" "#,
    r#""ef58b43713194b0c961b17214cf1cf32" "{ef58b437-1319-4b0c-961b-17214cf1cf32}" "#,
    r#""urn:uuid:ef58b437-1319-4b0c-961b-17214cf1cf32" "ef58b4371-319-4b0c-961b-17214cf1cf32" "#,
    "0 -0 0.0 -0.0e-0 0e99999999999999999999 1 1.0 1e0 10e-1 0.1E+1 1000000000000000000000e-21 ",
    "2 2.5 3 4 4.0 5 6 7 -1 1e18 1e400 1e999999999999999999999 1e-999999999999999999999 ",
    "1.00000000000000000001 4503599627370497.5 9007199254740991.0 9007199254740992 ",
    "9007199254740992.0 9007199254740992.5 9007199254740993.0 -9007199254740993e0 ",
    "9223372036854775807 9223372036854775808 9223372036854775807.0 -9223372036854775808 ",
    "-9223372036854775809 18446744073709551615 18446744073709551616 01 1.",
);

/// Small numbers from a seed, enough to choose by.
#[derive(Debug)]
pub struct Choices(u64);

impl Choices {
    /// As good as random, and the same for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }

    /// One of them.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn name(&mut self) -> Vec<u8> {
        let tokens = tokens(NAMES.as_bytes());
        let names: Vec<usize> = (0..tokens.len()).filter(|at| is_name(&tokens, *at)).collect();
        tokens[self.of(&names)].clone()
    }

    fn value(&mut self) -> &'static str {
        self.of(&VALUES.split(' ').collect::<Vec<_>>())
    }
}

/// A body with one to four changes to its values and members.
#[must_use]
pub fn json(body: &[u8], choices: &mut Choices) -> Vec<u8> {
    let mut tokens = tokens(body);
    for _ in 0..=choices.below(4) {
        if tokens.is_empty() {
            tokens.push(b"{}".to_vec());
        }
        change(&mut tokens, choices);
    }
    let mut body = tokens.concat();
    match choices.below(60) {
        0 => body.truncate(choices.below(body.len() + 1)),
        1 => body = ["\u{feff}".as_bytes(), &body].concat(),
        2 => {
            let at = choices.below(body.len() + 1);
            body.splice(
                at..at,
                choices.of(&[&b"\xff"[..], b"\xed\xa0\x80", b"\0"]).iter().copied(),
            );
        }
        _ => {}
    }
    body
}

fn change(tokens: &mut Vec<Vec<u8>>, choices: &mut Choices) {
    if choices.below(16) == 0 {
        return break_syntax(tokens, choices);
    }
    // Names and values, and not what is between them.
    let starts =
        |at: &usize| !matches!(tokens[*at][..], [b',' | b':' | b'}' | b']' | b' ' | b'\n']);
    let starts: Vec<usize> = (0..tokens.len()).filter(starts).collect();
    if starts.is_empty() {
        return;
    }
    let at = choices.of(&starts);
    let span = at..end_of_span(tokens, at);
    let (is_name, is_string) = (is_name(tokens, at), tokens[at].starts_with(b"\""));
    match choices.below(13) {
        0..=3 => {
            let value = if is_name { (at + 2).min(span.end)..span.end } else { span };
            tokens.splice(value, [choices.value().into()]);
        }
        4 if is_name => tokens[at] = choices.name(),
        5 => {
            let member = [&choices.name(), b":".as_slice(), choices.value().as_bytes()].concat();
            insert(tokens, vec![member], choices);
        }
        6 | 7 if is_name => {
            // With one comma, if there is one.
            let is_comma = |at: usize| tokens.get(at).is_some_and(|token| token == b",");
            let span = match (is_comma(span.end), at.checked_sub(1)) {
                (true, _) => at..span.end + 1,
                (false, Some(before)) if is_comma(before) => before..span.end,
                _ => span,
            };
            tokens.splice(span, []);
        }
        8 | 9 if is_name => {
            let member = tokens[span].to_vec();
            tokens.splice(at..at, member.into_iter().chain([b",".to_vec()]));
        }
        10 if is_name => insert(tokens, tokens[span].to_vec(), choices),
        11 if is_string => escape(&mut tokens[at], choices),
        _ => tokens.insert(at, choices.of(&[" ", "\n", "\t\r"]).into()),
    }
}

fn break_syntax(tokens: &mut Vec<Vec<u8>>, choices: &mut Choices) {
    let (at, other) = (choices.below(tokens.len()), choices.below(tokens.len()));
    match choices.below(3) {
        0 => tokens.swap(at, other),
        1 => drop(tokens.remove(at)),
        _ => tokens.insert(at, choices.of(&[",", "[", "]", "{", "}", "01", "'"]).into()),
    }
}

/// Inserts a member at the beginning of an object.
fn insert(tokens: &mut Vec<Vec<u8>>, mut member: Vec<Vec<u8>>, choices: &mut Choices) {
    let objects: Vec<usize> = (0..tokens.len()).filter(|at| tokens[*at] == b"{").collect();
    if objects.is_empty() {
        return;
    }
    let inside = choices.of(&objects) + 1;
    if tokens.get(inside).is_some_and(|token| token != b"}") {
        member.push(b",".to_vec());
    }
    tokens.splice(inside..inside, member);
}

fn is_name(tokens: &[Vec<u8>], at: usize) -> bool {
    tokens[at].starts_with(b"\"") && tokens.get(at + 1).is_some_and(|next| next == b":")
}

/// Writes a character of a string as an escape.
fn escape(token: &mut Vec<u8>, choices: &mut Choices) {
    if token.len() > 2 {
        let at = 1 + choices.below(token.len() - 2);
        if token[at].is_ascii_alphanumeric() || b".-_ ".contains(&token[at]) {
            let escaped = format!("\\u{:04x}", token[at]);
            token.splice(at..=at, escaped.into_bytes());
        }
    }
}

/// The end of the value that starts here, or of the member whose name is here.
fn end_of_span(tokens: &[Vec<u8>], at: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token[..] {
            [b'{' | b'['] => depth += 1,
            [b'}' | b']'] => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && token != b":" && !is_name(tokens, index) {
            return index + 1;
        }
    }
    tokens.len()
}

/// Strings, words, and single bytes; of what is not JSON too.
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

//! JSON as RFC 8259 defines it, read slowly and by hand: with duplicates, numbers as they are written, any
//! depth, and as far as the text is JSON. No library hands over all of that.

/// A member of an object: its name (`None` if it holds a lone surrogate), and the raw JSON of its
/// value.
pub(crate) struct Member<'a> {
    pub(crate) name: Option<String>,
    pub(crate) value: &'a str,
    /// Whether the value is complete. If not, `value` is the rest of the text.
    pub(crate) is_whole: bool,
}

/// The one value of the text, if the whole text is JSON.
pub(crate) fn document(text: &str) -> Option<&str> {
    let start = whitespace(text.as_bytes(), 0);
    let end = value(text.as_bytes(), start)?;
    (whitespace(text.as_bytes(), end) == text.len()).then_some(&text[start..end])
}

/// The members of the object that the text begins with, as far as it is JSON.
pub(crate) fn members(text: &str) -> Option<Vec<Member<'_>>> {
    let bytes = text.as_bytes();
    let mut at = text.starts_with('{').then_some(1)?;
    let mut members = Vec::new();
    loop {
        at = whitespace(bytes, at);
        let Some(end) = string_end(bytes, at) else { return Some(members) };
        let name = string(&text[at..end]);
        let (value, is_whole, end) = match value_after_name(bytes, at) {
            None => ("", false, text.len()),
            Some(start) => match value(bytes, start) {
                None => (&text[start..], false, text.len()),
                Some(end) => (&text[start..end], true, end),
            },
        };
        members.push(Member { name, value, is_whole });
        at = whitespace(bytes, end);
        if bytes.get(at) != Some(&b',') {
            return Some(members);
        }
        at += 1;
    }
}

/// The end of the value that starts here.
fn value(text: &[u8], at: usize) -> Option<usize> {
    match *text.get(at)? {
        b'{' => items(text, at, b'}', |at| value(text, value_after_name(text, at)?)),
        b'[' => items(text, at, b']', |at| value(text, at)),
        b'"' => string_end(text, at),
        b't' => literal(text, at, b"true"),
        b'f' => literal(text, at, b"false"),
        b'n' => literal(text, at, b"null"),
        _ => number_end(text, at),
    }
}

fn items(
    text: &[u8],
    at: usize,
    close: u8,
    end_of_item: impl Fn(usize) -> Option<usize>,
) -> Option<usize> {
    let mut at = whitespace(text, at + 1);
    if *text.get(at)? == close {
        return Some(at + 1);
    }
    loop {
        at = whitespace(text, end_of_item(at)?);
        match *text.get(at)? {
            b',' => at = whitespace(text, at + 1),
            byte => return (byte == close).then_some(at + 1),
        }
    }
}

fn value_after_name(text: &[u8], at: usize) -> Option<usize> {
    let colon = whitespace(text, string_end(text, at)?);
    (*text.get(colon)? == b':').then(|| whitespace(text, colon + 1))
}

fn whitespace(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|byte| b" \t\r\n".contains(byte)).count()
}

fn literal(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text[at..].starts_with(word).then_some(at + word.len())
}

fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut rest = text[at..].strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(text.len() - rest.len()),
            [b'\\', b'u', a, b, c, d, rest @ ..]
                if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) =>
            {
                rest
            }
            [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest @ ..] => rest,
            [b'\\' | 0..0x20, ..] | [] => return None,
            [_, rest @ ..] => rest,
        }
    }
}

fn number_end(text: &[u8], at: usize) -> Option<usize> {
    let digits = |at: usize| at + text[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let one_or_more = |at: usize| Some(digits(at)).filter(|end| *end > at);
    let start = if text[at] == b'-' { at + 1 } else { at };
    let mut end = one_or_more(start)?;
    if text[start] == b'0' && end > start + 1 {
        return None;
    }
    if text.get(end) == Some(&b'.') {
        end = one_or_more(end + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let signed = matches!(text.get(end + 1), Some(b'+' | b'-'));
        end = one_or_more(end + 1 + usize::from(signed))?;
    }
    Some(end)
}

/// The characters of a string; `None` for another value, and for a lone surrogate.
pub(crate) fn string(text: &str) -> Option<String> {
    serde_json::from_str(text).ok()
}

//! The field rules of `docs/contract.md`, written a second time and without the library: by hand,
//! from the grammar of RFC 8259 up, slow and plain. The library must agree with it on every body.

use std::collections::BTreeMap;

use unsubscribe_webhook::UnsubscribeEvent;

/// The scalars of an event by their pointers, the total under `/attempts_total`.
pub type Fields = BTreeMap<&'static str, Scalar>;

#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    Text(String),
    Integer(i64),
}

/// A code, and the pointer that goes with it.
pub type Fault = (&'static str, Option<&'static str>);

#[derive(Clone, Copy, PartialEq)]
enum Rule {
    Text,
    Name,
    LowerUuid,
    Uuid,
    Integer,
    Within(i64, i64),
    Object,
}

const MUST: bool = true;
const MAY: bool = false;

/// The table of the contract.
#[rustfmt::skip]
const TABLE: [(&str, Rule, bool); 21] = [
    ("/id", Rule::LowerUuid, MUST),
    ("/name", Rule::Name, MUST),
    ("/api_version", Rule::Text, MAY),
    ("/created_at", Rule::Integer, MAY),
    ("/attempt_total", Rule::Within(1, 4), MAY),
    ("/attempts_total", Rule::Within(1, 4), MAY),
    ("/attempt_number", Rule::Within(1, i64::MAX), MAY),
    ("/notification_task_id", Rule::Uuid, MAY),
    ("/data", Rule::Object, MUST),
    ("/data/phone", Rule::Text, MUST),
    ("/data/user_id", Rule::Integer, MUST),
    ("/data/created_at", Rule::Integer, MUST),
    ("/data/campaign_code", Rule::Text, MUST),
    ("/data/additional_data", Rule::Object, MUST),
    ("/data/additional_data/reason", Rule::Object, MUST),
    ("/data/additional_data/reason/id", Rule::Within(1, 6), MUST),
    ("/data/additional_data/reason/label", Rule::Text, MUST),
    ("/data/additional_data/additional_text", Rule::Text, MUST),
    ("/data/short_link_code", Rule::Text, MUST),
    ("/data/unsubscribe_request_id", Rule::Integer, MUST),
    ("/data/group_id", Rule::Integer, MAY),
];

/// The event's fields, or every fault of which the library may name any one.
pub fn judge(body: &[u8]) -> Result<Fields, Vec<Fault>> {
    let Some(text) = json_text(body) else { return Err(vec![("not_json", None)]) };
    // What is no object has none of the fields: the design's choice among "any one of them".
    let Some(members) = members(text) else { return Err(vec![("missing_field", Some("/name"))]) };
    if let [name] = named(&members, "name")[..]
        && string(name).is_some_and(|name| name != "phone.unsubscribe")
    {
        return Err(vec![("other_event", Some("/name"))]);
    }
    let (mut fields, mut faults) = (Fields::new(), Vec::new());
    judge_object("", &members, &mut fields, &mut faults);
    let of_page = fields.remove("/attempt_total");
    match (of_page, fields.get("/attempts_total")) {
        (Some(page), Some(example)) if page != *example => {
            faults.push(("invalid_field", Some("/attempts_total")));
        }
        (Some(page), _) => {
            fields.insert("/attempts_total", page);
        }
        (None, _) => {}
    }
    fields.remove("/name");
    if faults.is_empty() { Ok(fields) } else { Err(faults) }
}

fn judge_object(
    parent: &str,
    members: &[Member<'_>],
    fields: &mut Fields,
    faults: &mut Vec<Fault>,
) {
    for (pointer, rule, must) in TABLE {
        let Some((_, name)) = pointer.rsplit_once('/').filter(|(above, _)| *above == parent) else {
            continue;
        };
        match named(members, name)[..] {
            [] if must => faults.push(("missing_field", Some(pointer))),
            [] => {}
            [text] if text == "null" && !must => {}
            [text] if rule == Rule::Object => match self::members(text) {
                Some(below) => judge_object(pointer, &below, fields, faults),
                None => faults.push(("invalid_field", Some(pointer))),
            },
            [text] => match scalar(text, rule) {
                Some(value) => drop(fields.insert(pointer, value)),
                None => faults.push(("invalid_field", Some(pointer))),
            },
            _ => faults.push(("duplicate_field", Some(pointer))),
        }
    }
}

fn scalar(text: &str, rule: Rule) -> Option<Scalar> {
    let is_lower = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    match rule {
        Rule::Text => string(text).map(Scalar::Text),
        Rule::Name => string(text).filter(|name| name == "phone.unsubscribe").map(Scalar::Text),
        Rule::LowerUuid => string(text).filter(|id| is_uuid(id, is_lower)).map(Scalar::Text),
        Rule::Uuid => string(text)
            .filter(|id| is_uuid(id, |c| c.is_ascii_hexdigit()))
            .map(|id| Scalar::Text(id.to_ascii_lowercase())),
        Rule::Integer => integer(text).map(Scalar::Integer),
        Rule::Within(low, high) => {
            integer(text).filter(|n| (low..=high).contains(n)).map(Scalar::Integer)
        }
        Rule::Object => None,
    }
}

fn is_uuid(text: &str, is_digit: impl Fn(char) -> bool) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.concat().chars().all(is_digit)
}

/// The number that the text spells, if it is an integer that the contract takes.
fn integer(text: &str) -> Option<i64> {
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    let as_double = text.contains(['.', 'e', 'E']);
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = format!("{whole}{fraction}").trim_start_matches('0').to_owned();
    if digits.is_empty() {
        return Some(0);
    }
    // No body is long enough to bring an exponent back from where this saturates.
    let huge = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
    let mut power = exponent.parse().unwrap_or(huge) - i64::try_from(fraction.len()).ok()?;
    while power < 0 && digits.ends_with('0') {
        digits.pop();
        power += 1;
    }
    if !(0..=30).contains(&power) || digits.len() > 30 {
        return None;
    }
    digits.extend(std::iter::repeat_n('0', usize::try_from(power).ok()?));
    // 60 digits at most, and `i128` holds 38: what does not fit is out of range anyway.
    let value = sign * digits.parse::<i128>().ok()?;
    let limit = 1 << 53;
    if as_double && !(-limit..=limit).contains(&value) {
        return None;
    }
    i64::try_from(value).ok()
}

/// A member's name (`None` if it is no string of characters), and the text of its value.
type Member<'a> = (Option<String>, &'a str);

fn named<'a>(members: &[Member<'a>], name: &str) -> Vec<&'a str> {
    members.iter().filter(|(key, _)| key.as_deref() == Some(name)).map(|(_, text)| *text).collect()
}

/// The body as the text of its one value, if it is JSON.
fn json_text(body: &[u8]) -> Option<&str> {
    let start = blanks(body, 0);
    let end = value(body, start)?;
    (blanks(body, end) == body.len()).then_some(())?;
    Some(&std::str::from_utf8(body).ok()?[start..end])
}

/// The members of an object, whose text is known to be JSON.
fn members(text: &str) -> Option<Vec<Member<'_>>> {
    let bytes = text.as_bytes();
    let mut at = blanks(bytes, text.starts_with('{').then_some(1)?);
    let mut members = Vec::new();
    while bytes[at] != b'}' {
        let key_end = value(bytes, at)?;
        let key = string(&text[at..key_end]);
        let start = blanks(bytes, blanks(bytes, key_end) + 1);
        let end = value(bytes, start)?;
        members.push((key, &text[start..end]));
        at = blanks(bytes, end);
        if bytes[at] == b',' {
            at = blanks(bytes, at + 1);
        }
    }
    Some(members)
}

/// Where the value that starts here ends, by RFC 8259. Nesting costs a byte, not a stack frame.
fn value(body: &[u8], mut at: usize) -> Option<usize> {
    let mut open = Vec::new();
    loop {
        // A value starts here.
        match *body.get(at)? {
            bracket @ (b'{' | b'[') => {
                let inner = blanks(body, at + 1);
                if *body.get(inner)? == bracket + 2 {
                    at = inner + 1;
                } else {
                    open.push(bracket);
                    at = if bracket == b'{' { name(body, inner)? } else { inner };
                    continue;
                }
            }
            b'"' => at = string_end(body, at)?,
            b't' => at = literal(body, at, b"true")?,
            b'f' => at = literal(body, at, b"false")?,
            b'n' => at = literal(body, at, b"null")?,
            _ => at = number_end(body, at)?,
        }
        // A value has ended here.
        loop {
            let Some(&bracket) = open.last() else { return Some(at) };
            at = blanks(body, at);
            match *body.get(at)? {
                b',' => {
                    at = blanks(body, at + 1);
                    if bracket == b'{' {
                        at = name(body, at)?;
                    }
                    break;
                }
                close if close == bracket + 2 => {
                    open.pop();
                    at += 1;
                }
                _ => return None,
            }
        }
    }
}

/// Past a member's name and colon.
fn name(body: &[u8], at: usize) -> Option<usize> {
    let colon = blanks(body, string_end(body, at)?);
    (*body.get(colon)? == b':').then(|| blanks(body, colon + 1))
}

fn blanks(body: &[u8], at: usize) -> usize {
    at + body[at..].iter().take_while(|byte| b" \t\r\n".contains(byte)).count()
}

fn literal(body: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    body[at..].starts_with(word).then_some(at + word.len())
}

fn string_end(body: &[u8], at: usize) -> Option<usize> {
    let mut rest = body[at..].strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(body.len() - rest.len()),
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

fn number_end(body: &[u8], at: usize) -> Option<usize> {
    let digits = |at: usize| at + body[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let one_or_more = |at: usize| Some(digits(at)).filter(|end| *end > at);
    let start = if body[at] == b'-' { at + 1 } else { at };
    let mut end = if body.get(start) == Some(&b'0') { start + 1 } else { one_or_more(start)? };
    if body.get(end) == Some(&b'.') {
        end = one_or_more(end + 1)?;
    }
    if let Some(b'e' | b'E') = body.get(end) {
        let signed = matches!(body.get(end + 1), Some(b'+' | b'-'));
        end = one_or_more(end + 1 + usize::from(signed))?;
    }
    Some(end)
}

/// What a string's text spells; `None` for another value, and for a lone surrogate.
fn string(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let mut units = Vec::new();
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        let meant = match char {
            '\\' => match chars.next()? {
                'u' => {
                    let digits: String = chars.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&digits, 16).ok()?);
                    continue;
                }
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                itself => itself,
            },
            char => char,
        };
        units.extend_from_slice(meant.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).ok()
}

/// What the library read, in the same shape.
pub fn fields(event: &UnsubscribeEvent) -> Fields {
    let text = |text: &str| Some(Scalar::Text(text.to_owned()));
    let integer = |integer: i64| Some(Scalar::Integer(integer));
    let UnsubscribeEvent { data, .. } = event;
    let reason = &data.additional_data.reason;
    [
        ("/id", text(&event.id.to_string())),
        ("/api_version", event.api_version.as_deref().and_then(text)),
        ("/created_at", event.created_at.and_then(integer)),
        ("/attempts_total", event.attempts_total.and_then(integer)),
        ("/attempt_number", event.attempt_number.and_then(integer)),
        (
            "/notification_task_id",
            event.notification_task_id.and_then(|task| text(&task.to_string())),
        ),
        ("/data/phone", text(&data.phone)),
        ("/data/user_id", integer(data.user_id)),
        ("/data/created_at", integer(data.created_at)),
        ("/data/campaign_code", text(&data.campaign_code)),
        ("/data/additional_data/reason/id", integer(reason.id.as_i64())),
        ("/data/additional_data/reason/label", text(&reason.label)),
        ("/data/additional_data/additional_text", text(&data.additional_data.additional_text)),
        ("/data/short_link_code", text(&data.short_link_code)),
        ("/data/unsubscribe_request_id", integer(data.unsubscribe_request_id)),
        ("/data/group_id", data.group_id.and_then(integer)),
    ]
    .into_iter()
    .filter_map(|(pointer, value)| Some((pointer, value?)))
    .collect()
}

//! Bodies to judge: events of the contract, and what may become of them.

use fastrand::Rng;

use crate::{
    departures::{FIELDS, Field, Kind, NAME, OBJECTS, field},
    spelling::{Exact, Json, Number, Text},
};

pub(crate) struct Body {
    pub(crate) tree: Json,
    pub(crate) text: Vec<u8>,
    /// The names of what was done to the event.
    pub(crate) changes: Vec<&'static str>,
    /// Whether the text is none of the tree's, and no JSON.
    pub(crate) is_damaged: bool,
}

pub(crate) const UNCHANGED: &str = "nothing";

/// The one body of a seed.
pub(crate) fn body(seed: u64) -> Body {
    let rng = &mut Rng::with_seed(seed);
    let mut tree = event(rng);
    let mut changes = Vec::new();
    for _ in 0..pick(&[0, 1, 1, 1, 1, 1, 2, 2, 3], rng) {
        let (name, change) = pick(&CHANGES, rng);
        if change(&mut tree, rng).is_some() {
            changes.push(name);
        }
    }
    let mut text = write(&tree, rng);
    // Rarely, for then nothing else that was done to the event counts.
    let is_damaged = rng.u8(..20) == 0 && matches!(tree, Json::Object(_));
    if is_damaged {
        let (name, damage) = pick(&DAMAGES, rng);
        damage(&mut text, rng);
        changes.push(name);
    }
    if changes.is_empty() {
        changes.push(UNCHANGED);
    }
    Body { tree, text, changes, is_damaged }
}

/// The names of all that `body` can do.
pub(crate) fn all_changes() -> impl Iterator<Item = &'static str> {
    let changes = CHANGES.iter().map(|(name, _)| *name);
    changes.chain(DAMAGES.iter().map(|(name, _)| *name)).chain([UNCHANGED])
}

fn pick<T: Copy>(items: &[T], rng: &mut Rng) -> T {
    items[rng.usize(..items.len())]
}

fn any_field(rng: &mut Rng) -> &'static Field {
    &FIELDS[rng.usize(..FIELDS.len())]
}

fn write(tree: &Json, rng: &mut Rng) -> Vec<u8> {
    const BLANKS: [&str; 5] = [" ", "\n", "\t", "\r\n", "  \n\t "];
    let mut text = String::new();
    if rng.bool() {
        tree.write(&mut text, &mut || "");
    } else {
        text.push_str(pick(&BLANKS, rng));
        tree.write(&mut text, &mut || if rng.bool() { "" } else { pick(&BLANKS, rng) });
        text.push_str(pick(&BLANKS, rng));
    }
    text.into()
}

// Events of the contract, in every spelling that JSON has.

fn event(rng: &mut Rng) -> Json {
    let mut event = object("", rng);
    let page = slot(&mut event, "/attempt_total").cloned();
    if let (Some(page), Some(example)) = (page, slot(&mut event, "/attempts_total")) {
        *example = page;
    }
    event
}

fn object(pointer: &'static str, rng: &mut Rng) -> Json {
    let mut members = Vec::new();
    for field in FIELDS.iter().filter(|field| field.place().0 == pointer) {
        if field.required || rng.bool() {
            members.push((name(field.place().1, rng), value(field, rng)));
        }
    }
    if rng.u8(..6) == 0 {
        members.push((unknown_name(pointer, rng), any(2, rng)));
    }
    if rng.bool() {
        rng.shuffle(&mut members);
    }
    Json::Object(members)
}

fn name(name: &str, rng: &mut Rng) -> Text {
    if rng.u8(..20) == 0 { Text::odd(name, rng) } else { Text::plain(name) }
}

fn value(field: &Field, rng: &mut Rng) -> Json {
    match field.kind {
        Kind::Name => Json::String(name(NAME, rng)),
        Kind::EventId => Json::String(name(&uuid(rng).to_lowercase(), rng)),
        Kind::TaskId => Json::String(name(&uuid(rng), rng)),
        Kind::Text => string(rng),
        Kind::Integer { least, most } => {
            let value =
                if rng.u8(..10) == 0 { rng.i64(least..=most) } else { small(least, most, rng) };
            Json::integer(value.into())
        }
        Kind::Object => object(field.pointer, rng),
    }
}

fn small(least: i64, most: i64, rng: &mut Rng) -> i64 {
    rng.i64(least.max(-3)..=most.min(2_000_000_000))
}

fn uuid(rng: &mut Rng) -> String {
    let digits: String = (0..32).map(|_| rng.digit(16)).collect();
    let upper = rng.u8(..4);
    let cased: String = digits
        .chars()
        .map(|digit| {
            if upper > 1 && (upper == 2 || rng.bool()) { digit.to_ascii_uppercase() } else { digit }
        })
        .collect();
    [&cased[..8], &cased[8..12], &cased[12..16], &cased[16..20], &cased[20..]].join("-")
}

const CHARACTERS: [char; 24] = [
    'a',
    'Z',
    '0',
    '+',
    ' ',
    '-',
    '"',
    '\\',
    '/',
    '{',
    ']',
    ',',
    '\0',
    '\u{8}',
    '\n',
    '\u{1f}',
    '\u{7f}',
    'ä',
    'ß',
    '\u{2028}',
    '\u{fffe}',
    '\u{fffd}',
    '😀',
    '\u{10ffff}',
];

fn string(rng: &mut Rng) -> Json {
    let length = rng.usize(..12);
    let value: String = (0..length).map(|_| pick(&CHARACTERS, rng)).collect();
    Json::String(Text::odd(&value, rng))
}

/// Any JSON that a tree can hold.
fn any(depth: u8, rng: &mut Rng) -> Json {
    let kinds = if depth == 0 { 5 } else { 8 };
    match rng.u8(..kinds) {
        0 => Json::Null,
        1 => Json::Bool(rng.bool()),
        2 => Json::integer(rng.i64(-10..10).into()),
        3 => fraction_or_odd_integer(rng),
        4 => string(rng),
        5 => Json::Array((0..rng.u8(..4)).map(|_| any(depth - 1, rng)).collect()),
        6 => {
            let member = |rng: &mut Rng| (unknown_name("", rng), any(depth - 1, rng));
            Json::Object((0..rng.u8(..4)).map(|_| member(rng)).collect())
        }
        _ => Json::Nest { depth: rng.usize(1..40), objects: rng.bool() },
    }
}

fn fraction_or_odd_integer(rng: &mut Rng) -> Json {
    let value = rng.i128(-1_000_000..1_000_000);
    if rng.bool() { fraction(value, 6, rng) } else { as_double(value, rng) }
}

/// A name that is none of the contract's in this object.
fn unknown_name(object: &str, rng: &mut Rng) -> Text {
    const NAMES: [&str; 12] =
        ["", "x", "Id", "phone", "reason", "label", "name", "user_id", "data", "idn", "id ", "ïd"];
    loop {
        let given = name(pick(&NAMES, rng), rng);
        if field(object, &given).is_none() {
            return given;
        }
    }
}

// The spellings of a number.

/// `value` with a fraction or an exponent.
fn as_double(value: i128, rng: &mut Rng) -> Json {
    const ZEROS: [&str; 8] =
        ["-0.0", "0.0", "0e0", "0E400", "-0e+7", "0.000e-400", "0e99999999999999999999", "0.0E-1"];
    let sign = if value < 0 { "-" } else { "" };
    let digits = value.unsigned_abs().to_string();
    let e = if rng.bool() { 'e' } else { 'E' };
    let spelled = match rng.u8(..5) {
        _ if value == 0 => pick(&ZEROS, rng).to_owned(),
        0 => format!("{value}.{}", zeros(rng)),
        1 => format!("{value}{e}{}{}", pick(&["", "+", "-"], rng), zeros(rng)),
        2 => {
            let places = rng.usize(1..30);
            let padded = format!("{digits:0>width$}", width = places + 1);
            let (whole, fraction) = padded.split_at(padded.len() - places);
            format!("{sign}{whole}.{fraction}{e}{}{places}", pick(&["", "+", "00"], rng))
        }
        3 => {
            let places = rng.usize(1..30);
            format!("{value}{}{e}-{places}", "0".repeat(places))
        }
        _ => {
            let significant = digits.trim_end_matches('0');
            format!("{sign}{significant}{e}{}", digits.len() - significant.len())
        }
    };
    Json::Number(Number { spelled, value: Exact::Integer(value) })
}

fn zeros(rng: &mut Rng) -> String {
    "0".repeat(rng.usize(1..30))
}

/// `value` and a bit more, that stands at one of so many places behind the point.
fn fraction(value: i128, places: usize, rng: &mut Rng) -> Json {
    let zeros = "0".repeat(rng.usize(..places));
    let digit = rng.u8(1..10);
    let spelled = match rng.u8(..3) {
        0 if value != 0 => format!("{value}{digit}e-{}", rng.usize(1..=places)),
        _ => format!("{value}.{zeros}{digit}{}", pick(&["", "0", "e0", "00E-0"], rng)),
    };
    Json::Number(Number { spelled, value: Exact::Fraction })
}

// What may become of an event. Each is done to one place, and None says that there is none.

type Change = fn(&mut Json, &mut Rng) -> Option<()>;

const CHANGES: [(&str, Change); 32] = [
    ("another type", |tree, rng| set(tree, any_field(rng), any(2, rng))),
    ("null", |tree, rng| set(tree, any_field(rng), Json::Null)),
    ("absent", |tree, rng| remove(tree, any_field(rng)).map(drop)),
    ("misnamed", |tree, rng| misname(tree, any_field(rng), rng)),
    ("name in escapes", |tree, rng| {
        let (object, name) = any_field(rng).place();
        let member = members(tree, object)?.iter_mut().find(|(given, _)| given.is(name))?;
        member.0 = Text::odd(name, rng);
        Some(())
    }),
    ("misplaced", |tree, rng| misplace(tree, any_field(rng), rng)),
    ("array for an object", array_for_object),
    ("integer as a double", |tree, rng| {
        let (field, least, most) = integer_field(rng);
        let value = small(least, most, rng).into();
        set(tree, field, as_double(value, rng))
    }),
    ("integer at an edge", |tree, rng| {
        let (field, ..) = integer_field(rng);
        set(tree, field, edge(rng))
    }),
    ("integer out of range", |tree, rng| {
        let (field, ..) = integer_field(rng);
        let value = pick(&[-1, 0, 5, 7, 8, 1 << 40], rng);
        set(tree, field, if rng.bool() { Json::integer(value) } else { as_double(value, rng) })
    }),
    ("integer outside i64", |tree, rng| {
        let (field, ..) = integer_field(rng);
        set(tree, field, outside_i64(rng))
    }),
    ("integer beyond exact doubles", |tree, rng| {
        let (field, ..) = integer_field(rng);
        let value = rng.i128((1 << 53) + 1..1 << 63);
        let value = if rng.bool() { value } else { -value };
        set(tree, field, as_double(value, rng))
    }),
    ("fraction", |tree, rng| {
        let (field, ..) = integer_field(rng);
        let value = rng.i128(-10..10);
        set(tree, field, fraction(value, 6, rng))
    }),
    ("fraction too fine for a double", |tree, rng| {
        let (field, ..) = integer_field(rng);
        set(tree, field, fine_fraction(rng))
    }),
    ("number beyond doubles", |tree, rng| set(tree, any_field(rng), beyond_doubles(rng))),
    ("number as a string", |tree, rng| {
        let (field, ..) = integer_field(rng);
        set(tree, field, Json::string(pick(&["1", "2.0", "", "1e0"], rng)))
    }),
    ("doubled", double),
    ("unknown field doubled", |tree, rng| {
        let pointer = pick(&OBJECTS, rng);
        let name = unknown_name(pointer, rng);
        insert(tree, pointer, (name.clone(), any(1, rng)), rng)?;
        insert(tree, pointer, (name, any(1, rng)), rng)
    }),
    ("both totals", |tree, rng| {
        for name in ["attempt_total", "attempts_total"] {
            remove(tree, at(&["/", name].concat()));
            let value = rng.i128(1..=4);
            let value = if rng.bool() { Json::integer(value) } else { as_double(value, rng) };
            insert(tree, "", (Text::plain(name), value), rng)?;
        }
        Some(())
    }),
    ("odd UUID", odd_uuid),
    ("odd text", |tree, rng| {
        let field = pick_field(|field| field.kind == Kind::Text, rng);
        set(tree, field, string(rng))
    }),
    ("lone surrogate in a field", |tree, rng| {
        set(tree, any_field(rng), Json::String(lone_surrogate(rng)))
    }),
    ("deep value in a field", |tree, rng| set(tree, any_field(rng), deep(rng))),
    ("unknown field", |tree, rng| {
        let pointer = pick(&OBJECTS, rng);
        let name = unknown_name(pointer, rng);
        let value = any(3, rng);
        insert(tree, pointer, (name, value), rng)
    }),
    ("unknown field, deep", |tree, rng| insert_unknown(tree, deep, rng)),
    ("unknown field, beyond doubles", |tree, rng| insert_unknown(tree, beyond_doubles, rng)),
    ("unknown field, lone surrogate", |tree, rng| {
        insert_unknown(tree, |rng| Json::String(lone_surrogate(rng)), rng)
    }),
    ("name with a lone surrogate", |tree, rng| {
        let (pointer, name) = (pick(&OBJECTS, rng), lone_surrogate(rng));
        let value = any(1, rng);
        insert(tree, pointer, (name, value), rng)
    }),
    ("another event", |tree, rng| {
        const NAMES: [&str; 7] = [
            "sms.delivery",
            "phone.subscribe",
            "Phone.Unsubscribe",
            "phone.unsubscribe ",
            "phone.unsubscribe\0",
            "phone_unsubscribe",
            "",
        ];
        let value = Json::String(Text::odd(pick(&NAMES, rng), rng));
        set(tree, at("/name"), value)
    }),
    ("name of another type", |tree, rng| {
        let value = Json::Array(vec![Json::string(NAME)]);
        let value = if rng.bool() { value } else { Json::integer(rng.i128(..10)) };
        set(tree, at("/name"), value)
    }),
    ("no object", |tree, rng| {
        let array = Json::Array(vec![tree.clone()]);
        *tree = match any(2, rng) {
            Json::Object(_) | Json::Nest { objects: true, .. } => array,
            other if rng.bool() => other,
            _ if rng.bool() => beyond_doubles(rng),
            _ => array,
        };
        Some(())
    }),
    ("no JSON token", |tree, rng| {
        let broken = Json::Broken(pick(&BROKEN, rng));
        if rng.bool() {
            return insert_unknown(tree, |_| broken.clone(), rng);
        }
        set(tree, any_field(rng), broken)
    }),
];

fn at(pointer: &str) -> &'static Field {
    FIELDS.iter().find(|field| field.pointer == pointer).expect("a field of the table")
}

fn pick_field(suits: fn(&Field) -> bool, rng: &mut Rng) -> &'static Field {
    loop {
        let field = any_field(rng);
        if suits(field) {
            return field;
        }
    }
}

fn integer_field(rng: &mut Rng) -> (&'static Field, i64, i64) {
    let field = pick_field(|field| matches!(field.kind, Kind::Integer { .. }), rng);
    let Kind::Integer { least, most } = field.kind else { unreachable!("it was picked by this") };
    (field, least, most)
}

/// The members of one of the contract's objects.
fn members<'a>(tree: &'a mut Json, object: &str) -> Option<&'a mut Vec<(Text, Json)>> {
    let mut inner = tree;
    for step in object.split('/').skip(1) {
        let Json::Object(members) = inner else { return None };
        inner = &mut members.iter_mut().find(|(name, _)| name.is(step))?.1;
    }
    match inner {
        Json::Object(members) => Some(members),
        _ => None,
    }
}

fn slot<'a>(tree: &'a mut Json, pointer: &str) -> Option<&'a mut Json> {
    let (object, name) = at(pointer).place();
    let member = members(tree, object)?.iter_mut().find(|(given, _)| given.is(name))?;
    Some(&mut member.1)
}

/// Gives a field a value, whether it has one or not.
fn set(tree: &mut Json, field: &Field, value: Json) -> Option<()> {
    if let Some(slot) = slot(tree, field.pointer) {
        *slot = value;
    } else {
        let (object, name) = field.place();
        members(tree, object)?.push((Text::plain(name), value));
    }
    Some(())
}

fn remove(tree: &mut Json, field: &Field) -> Option<(Text, Json)> {
    let (object, name) = field.place();
    let members = members(tree, object)?;
    let index = members.iter().position(|(given, _)| given.is(name))?;
    Some(members.remove(index))
}

fn insert(tree: &mut Json, object: &str, member: (Text, Json), rng: &mut Rng) -> Option<()> {
    let members = members(tree, object)?;
    members.insert(rng.usize(..=members.len()), member);
    Some(())
}

fn insert_unknown(
    tree: &mut Json,
    value: impl FnOnce(&mut Rng) -> Json,
    rng: &mut Rng,
) -> Option<()> {
    let pointer = pick(&OBJECTS, rng);
    let name = unknown_name(pointer, rng);
    let value = value(rng);
    let wrapped = match rng.u8(..4) {
        0 => Json::Array(vec![Json::Null, value]),
        1 => Json::Object(vec![(Text::plain("id"), value)]),
        _ => value,
    };
    insert(tree, pointer, (name, wrapped), rng)
}

fn misname(tree: &mut Json, field: &Field, rng: &mut Rng) -> Option<()> {
    let (_, value) = remove(tree, field)?;
    let (object, name) = field.place();
    let odd = match rng.u8(..6) {
        0 => name.to_uppercase(),
        1 => format!("{name} "),
        2 => format!("{name}\0"),
        3 => format!("/{name}"),
        4 => name.replacen('a', "а", 1).replacen('i', "і", 1),
        _ => name[1..].to_owned(),
    };
    insert(tree, object, (Text::odd(&odd, rng), value), rng)
}

fn misplace(tree: &mut Json, field: &Field, rng: &mut Rng) -> Option<()> {
    let member = remove(tree, field)?;
    // Where the new place went with the field itself, it is just absent.
    insert(tree, pick(&OBJECTS, rng), member, rng).or(Some(()))
}

/// What derived serde code takes for the object.
fn array_for_object(tree: &mut Json, rng: &mut Rng) -> Option<()> {
    let slot = slot(tree, pick_field(|field| field.kind == Kind::Object, rng).pointer)?;
    let Json::Object(members) = slot else { return None };
    *slot = Json::Array(members.drain(..).map(|(_, value)| value).collect());
    Some(())
}

fn double(tree: &mut Json, rng: &mut Rng) -> Option<()> {
    let field = any_field(rng);
    let first = slot(tree, field.pointer)?.clone();
    let value = match rng.u8(..4) {
        0 => any(1, rng),
        1 => Json::Null,
        2 => value(field, rng),
        _ => first,
    };
    let (object, name) = field.place();
    insert(tree, object, (Text::odd(name, rng), value), rng)
}

fn odd_uuid(tree: &mut Json, rng: &mut Rng) -> Option<()> {
    let lower = uuid(rng).to_lowercase();
    let simple = lower.replace('-', "");
    let odd = match rng.u8(..13) {
        0 => lower.to_uppercase(),
        1 => format!("{}F", &lower[..35]),
        2 => format!("{{{lower}}}"),
        3 => format!("urn:uuid:{lower}"),
        4 => simple,
        5 => lower[1..].to_owned(),
        6 => format!("{lower}0"),
        7 => format!(" {lower}"),
        8 => format!("{lower}\n"),
        9 => format!("{}-{}-{}", &simple[..9], &simple[9..12], &simple[12..]),
        10 => format!("{}g", &lower[..35]),
        11 => format!("{}１", &lower[..35]),
        _ => String::new(),
    };
    let field = pick_field(|field| matches!(field.kind, Kind::EventId | Kind::TaskId), rng);
    set(tree, field, Json::String(Text::odd(&odd, rng)))
}

fn edge(rng: &mut Rng) -> Json {
    const EXACT: i128 = 1 << 53;
    let sign = pick(&[1, -1], rng);
    match rng.u8(..5) {
        0 => Json::integer(pick(&[i64::MAX.into(), i64::MIN.into()], rng)),
        1 => Json::integer(sign * (EXACT + 1)),
        2 => as_double(sign * EXACT, rng),
        3 => Json::Number(Number { spelled: "-0".to_owned(), value: Exact::Integer(0) }),
        _ => Json::integer(pick(&[1, 4, 6], rng)),
    }
}

fn outside_i64(rng: &mut Rng) -> Json {
    const HUGE: [&str; 5] = ["1e300", "-1.5E+200", "1234567890e99", "-0.1e50", "2000e36"];
    let value = match rng.u8(..6) {
        0 => i128::from(i64::MAX) + 1,
        1 => i128::from(i64::MIN) - 1,
        2 => u64::MAX.into(),
        3 => i128::from(u64::MAX) + 1,
        4 => rng.i128(i128::MIN..i128::from(i64::MIN)),
        _ => {
            let digits = format!("{}{}", rng.u8(1..10), "0".repeat(rng.usize(39..300)));
            let spelled = if rng.bool() { digits } else { pick(&HUGE, rng).to_owned() };
            return Json::Number(Number { spelled, value: Exact::HugeInteger });
        }
    };
    if rng.bool() { Json::integer(value) } else { as_double(value, rng) }
}

fn fine_fraction(rng: &mut Rng) -> Json {
    const FINE: [&str; 6] = [
        "1e-400",
        "-1E-99999999999999999999",
        "9007199254740992.5",
        "-4503599627370497.5",
        "90071992547409925e-1",
        "5.99999999999999999999999",
    ];
    if rng.bool() {
        let spelled = pick(&FINE, rng).to_owned();
        return Json::Number(Number { spelled, value: Exact::Fraction });
    }
    let spelled = format!("{}.{:025}1", rng.u8(1..7), 0);
    Json::Number(Number { spelled, value: Exact::Fraction })
}

fn beyond_doubles(rng: &mut Rng) -> Json {
    let spelled = match rng.u8(..4) {
        0 => "1e400".to_owned(),
        1 => "-1E400".to_owned(),
        2 => "1e99999999999999999999".to_owned(),
        _ => "9".repeat(400),
    };
    Json::Number(Number { spelled, value: Exact::HugeInteger })
}

fn deep(rng: &mut Rng) -> Json {
    Json::Nest { depth: rng.usize(200..1_500), objects: rng.bool() }
}

fn lone_surrogate(rng: &mut Rng) -> Text {
    const SPELLED: [&str; 6] = [
        r#""\ud800""#,
        r#""\uDFFF""#,
        r#""\udc00\ud800""#,
        r#""a\ud83d!""#,
        r#""phone\ud83d\u0041""#,
        r#""\ud83d\ud83d\ude00""#,
    ];
    Text::lone_surrogate(pick(&SPELLED, rng))
}

const BROKEN: [&str; 29] = [
    "01",
    "-01",
    "+1",
    ".5",
    "5.",
    "1.e1",
    "1e",
    "1e+",
    "0x10",
    "NaN",
    "-Infinity",
    "-",
    "--1",
    "1 2",
    "True",
    "nul",
    "undefined",
    "",
    "'x'",
    r#""\x""#,
    r#""\u12""#,
    "\"raw \n break\"",
    "\"raw \t tab\"",
    "[1,]",
    "[,]",
    "{,}",
    r#"{"a"}"#,
    "{a:1}",
    "/* no */ 1",
];

type Damage = fn(&mut Vec<u8>, &mut Rng);

/// What makes the text of an object none of JSON.
const DAMAGES: [(&str, Damage); 5] = [
    ("text cut off", |text, rng| {
        let end = text.iter().rposition(|byte| *byte == b'}').expect("an object ends so");
        text.truncate(rng.usize(..=end));
    }),
    ("text with more behind it", |text, rng| {
        const MORE: [&str; 11] =
            ["x", "}", "]", ",", "{}", "0", "null", "\"\"", "\0", "//", "\u{feff}"];
        text.extend_from_slice(pick(&MORE, rng).as_bytes());
    }),
    ("text with more before it", |text, rng| {
        const MORE: [&str; 6] = ["\u{feff}", "[", "{", ",", "0", "null"];
        text.splice(..0, pick(&MORE, rng).bytes());
    }),
    ("text that is no UTF-8", |text, rng| {
        const INVALID: [&[u8]; 5] =
            [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xfe\xff"];
        let place = rng.usize(..=text.len());
        text.splice(place..place, pick(&INVALID, rng).iter().copied());
    }),
    ("text in UTF-16", |text, rng| {
        let utf8 = String::from_utf8_lossy(text).into_owned();
        let to_bytes = if rng.bool() { u16::to_le_bytes } else { u16::to_be_bytes };
        *text = utf8.encode_utf16().flat_map(to_bytes).collect();
    }),
];

//! This library beside what a user would write or pick instead: `cargo bench --bench side_by_side
//! [CASE]` prints the ratio of the times of each pair.
//!
//! The two sides of a pair take turns, a batch each, so that both run while the machine is in the
//! same state. One measurement is the ratio of the medians over many turns; a row is the median of
//! several, each with new apps, and the least and the most of them.

use std::{
    env,
    hint::black_box,
    time::{Duration, Instant},
};

use axum::extract::Request;
use bytes::Bytes;
use unsubscribe_webhook::UnsubscribeEvent;
use webhook_benches::*;

const MEASUREMENTS: usize = 15;
const MEASUREMENT_TIME: Duration = Duration::from_millis(150);
const BATCH: u32 = 20;

/// One side of a pair: runs a batch and returns its time.
type Side = Box<dyn FnMut() -> Duration>;

fn main() {
    println!("{:<32} {:<20} {:>8} {:>12}", "case", "peer", "ours, ns", "ours / peer");

    let accepted = |app: &App| deliveries(app, 200, &EXAMPLE);
    // Shows what is noise.
    compare("accepted", "ours", || accepted(&ours()), || accepted(&ours()));
    for (name, peer) in peers() {
        compare("accepted", name, || accepted(&ours()), || accepted(&peer));
    }

    for (size, bytes) in [("no body", 0), ("500 bytes", 500), ("1 MiB", 1 << 20)] {
        let body = Bytes::from(vec![b'x'; bytes]);
        for (case, token) in [("no token", None), ("wrong token", Some(WRONG))] {
            let refused = |app: App| {
                let body = body.clone();
                requests(&app, 401, move |_| unauthenticated(token, &body))
            };
            let case = format!("{case}, {size}");
            compare(&case, "hand-written", || refused(ours()), || refused(hand_written()));
        }
    }

    for (case, body, by_hand) in [
        ("cut off", EXAMPLE.slice(..EXAMPLE.len() - 1), 400),
        ("without phone", altered(r#""phone""#, r#""other""#), 422),
        // The hand-written one does not check the reason.
        ("reason 7", reason_7(), 200),
    ] {
        let refused = || deliveries(&ours(), 400, &body);
        compare(case, "hand-written", refused, || deliveries(&hand_written(), by_hand, &body));
    }

    let refused = || decoding(|body| UnsubscribeEvent::from_slice(body).unwrap_err(), &reason_7());
    compare("decode, reason 7", "ours, reason 4", refused, || decoding(decode_ours, &EXAMPLE));
    compare_decoders("decode, example", &EXAMPLE);
    for (kind, unit) in [
        ("plain", "lorem ipsum dolor sit amet "),
        ("escapes, umlauts", "grün \\\"\u{1f600}\\u00e4\\n "),
    ] {
        for kib in [2, 16, 64] {
            compare_decoders(&format!("decode, {kib} KiB, {kind}"), &long_body(kib << 10, unit));
        }
    }
}

fn compare_decoders(case: &str, body: &Bytes) {
    let ours = || decoding(decode_ours, body);
    compare(case, "serde_json", ours, || decoding(decode_serde_json, body));
    compare(case, "sonic-rs", ours, || decoding(decode_sonic_rs, body));
    compare(case, "simd-json", ours, || decoding(decode_simd_json, body));
}

/// Prints a row, unless only other cases are wanted.
fn compare(case: &str, peer: &str, ours: impl Fn() -> Side, theirs: impl Fn() -> Side) {
    let wanted = env::args().skip(1).find(|argument| !argument.starts_with("--"));
    if wanted.is_some_and(|wanted| !case.contains(&wanted)) {
        return;
    }
    let measure = |_| {
        let (mut ours, mut theirs) = (ours(), theirs());
        let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
        let start = Instant::now();
        while start.elapsed() < MEASUREMENT_TIME {
            our_times.push(ours().as_secs_f64());
            their_times.push(theirs().as_secs_f64());
        }
        let ours = median(our_times);
        (ours, ours / median(their_times))
    };
    let (times, mut ratios): (Vec<_>, Vec<_>) = (0..MEASUREMENTS).map(measure).unzip();
    ratios.sort_by(f64::total_cmp);
    let (least, most) = (ratios[0], ratios[MEASUREMENTS - 1]);
    let nanoseconds = median(times) * 1e9 / f64::from(BATCH);
    let ratio = median(ratios);
    println!("{case:<32} {peer:<20} {nanoseconds:>8.0} {ratio:>12.3} ({least:.3} to {most:.3})");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn deliveries(app: &App, expected: u16, body: &Bytes) -> Side {
    let body = body.clone();
    requests(app, expected, move |app| app.delivery(&body))
}

/// The time includes the drop of each response, not the making of the requests.
fn requests(app: &App, expected: u16, request: impl Fn(&App) -> Request + 'static) -> Side {
    let app = app.clone();
    let mut router = app.warmed_up(expected, &request);
    Box::new(move || {
        let requests: Vec<_> = (0..BATCH).map(|_| request(&app)).collect();
        let start = Instant::now();
        for request in requests {
            drop(black_box(respond(&mut router, black_box(request))));
        }
        start.elapsed()
    })
}

fn decoding<T: 'static>(decode: fn(&[u8]) -> T, body: &Bytes) -> Side {
    let body = body.clone();
    Box::new(move || {
        let start = Instant::now();
        for _ in 0..BATCH {
            drop(black_box(decode(black_box(&body))));
        }
        start.elapsed()
    })
}

/// The example with a long `additional_text`.
fn long_body(bytes: usize, unit: &str) -> Bytes {
    let member = r#""additional_text":""#;
    let text = unit.repeat((bytes - EXAMPLE.len()) / unit.len());
    altered(member, &format!("{member}{text}"))
}

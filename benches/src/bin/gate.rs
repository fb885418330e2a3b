//! One case for callgrind to count: `gate CASE`. `scripts/check-speed` runs it.

use std::hint::black_box;

use axum::extract::Request;
use unsubscribe_webhook::UnsubscribeEvent;
use webhook_benches::*;

fn main() {
    let wrong_token = |_: &App| unauthenticated(Some(WRONG), &EXAMPLE);
    match std::env::args().nth(1).as_deref() {
        Some("accepted-ours") => respond_to(ours(), 200, |app| app.delivery(&EXAMPLE)),
        Some("accepted-floor") => respond_to(floor(), 200, |app| app.delivery(&EXAMPLE)),
        Some("refused-ours") => respond_to(ours(), 401, wrong_token),
        Some("refused-by-hand") => respond_to(hand_written(), 401, wrong_token),
        Some("decode-ours") => decode(decode_ours, &EXAMPLE),
        Some("decode-serde-json") => decode(decode_serde_json, &EXAMPLE),
        Some("decode-reason-7") => {
            decode(|body| UnsubscribeEvent::from_slice(body).unwrap_err(), &reason_7());
        }
        case => panic!("unknown case {case:?}"),
    }
}

/// So many that the state of the allocator does not matter.
const REPETITIONS: usize = 100;

fn respond_to(app: App, expected: u16, request: impl Fn(&App) -> Request) {
    let mut router = app.warmed_up(expected, &request);
    let requests: Vec<_> = (0..REPETITIONS).map(|_| request(&app)).collect();
    measured(|| {
        for request in requests {
            drop(black_box(respond(&mut router, black_box(request))));
        }
    });
}

fn decode<T>(decode: fn(&[u8]) -> T, body: &[u8]) {
    measured(|| {
        for _ in 0..REPETITIONS {
            drop(black_box(decode(black_box(body))));
        }
    });
}

/// callgrind counts inside this function and nowhere else.
#[inline(never)]
fn measured(case: impl FnOnce()) {
    case();
}

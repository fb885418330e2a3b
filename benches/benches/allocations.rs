//! Allocations of one delivery, counted: `cargo bench --bench allocations`.
//!
//! Exits with 1 if the library makes more of its own than it promises.

use std::process::ExitCode;

use axum::extract::Request;
use bytes::Bytes;
use webhook_benches::*;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// The strings of the example that the event owns.
const STRINGS: u64 = 6;
const MOST_ACCEPTED: u64 = 3;
const MOST_REFUSED: u64 = 6;

fn main() -> ExitCode {
    let _counting = dhat::Profiler::builder().testing().build();
    let large = Bytes::from(vec![b'x'; 1 << 20]);

    let axum = count(&bare(), |host| host.delivery(&EXAMPLE));
    let accepted = count(&ours(), |host| host.delivery(&EXAMPLE));
    let floor = count(&floor(), |host| host.delivery(&EXAMPLE));
    let by_hand = count(&hand_written(), |host| host.delivery(&EXAMPLE));
    let own = accepted - axum - STRINGS;
    println!("accepted: ours {accepted}, floor {floor}, hand-written {by_hand}, bare axum {axum}");
    println!(
        "  ours beyond axum's and the event's {STRINGS} strings: {own}, {MOST_ACCEPTED} at most"
    );

    let axum = count(&bare_refusal(), |_| refused(None, &EXAMPLE));
    let by_hand = count(&hand_written(), |_| refused(Some(WRONG), &EXAMPLE));
    let refusals = [
        ("no token", count(&ours(), |_| refused(None, &EXAMPLE))),
        ("no token, 1 MiB", count(&ours(), |_| refused(None, &large))),
        ("wrong token", count(&ours(), |_| refused(Some(WRONG), &EXAMPLE))),
        ("wrong token, 1 MiB", count(&ours(), |_| refused(Some(WRONG), &large))),
    ];
    println!("refused: hand-written {by_hand}, bare axum {axum}");
    let mut within = own <= MOST_ACCEPTED;
    for (name, ours) in refusals {
        println!("  ours, {name}: {ours}, beyond axum's {}, {MOST_REFUSED} at most", ours - axum);
        within &= ours - axum <= MOST_REFUSED && ours == refusals[0].1;
    }
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Blocks that one request allocates, its own and those of what is set up once left out.
fn count(host: &Host, request: impl Fn(&Host) -> Request) -> u64 {
    let mut app = host.service();
    drop(answer(&mut app, request(host)));
    let request = request(host);
    let before = dhat::HeapStats::get().total_blocks;
    drop(answer(&mut app, request));
    dhat::HeapStats::get().total_blocks - before
}

//! Blocks allocated by one request: `cargo bench --bench allocations`.
//!
//! Exits with 1 if the library allocates more than it promises beyond its peers.

use std::process::ExitCode;

use axum::extract::Request;
use bytes::Bytes;
use webhook_benches::*;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const MOST_ACCEPTED: u64 = 1;
const MOST_REFUSED: u64 = 3;

fn main() -> ExitCode {
    let _profiler = dhat::Profiler::builder().testing().build();
    let accepted = |app| count(&app, 200, |app| app.delivery(&EXAMPLE));
    let (ours_accepted, floor, by_hand) =
        (accepted(ours()), accepted(floor()), accepted(hand_written()));
    println!("accepted: ours {ours_accepted}, floor {floor}, hand-written {by_hand}");

    let mut is_kept = ours_accepted <= floor + MOST_ACCEPTED;

    let refused = |app, token, body: &Bytes| count(&app, 401, |_| unauthenticated(token, body));
    let by_hand = refused(hand_written(), Some(WRONG), &EXAMPLE);
    println!("wrong token: hand-written {by_hand}");
    let large = Bytes::from(vec![b'x'; 1 << 20]);
    for (case, token) in [("no token", None), ("wrong token", Some(WRONG))] {
        for body in [&EXAMPLE, &large] {
            let ours = refused(ours(), token, body);
            println!("{case}, body of {} bytes: ours {ours}", body.len());
            is_kept &= ours <= by_hand + MOST_REFUSED;
        }
    }
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn count(app: &App, expected: u16, request: impl Fn(&App) -> Request) -> u64 {
    let mut router = app.warmed_up(expected, &request);
    let request = request(app);
    let before = dhat::HeapStats::get().total_blocks;
    drop(respond(&mut router, request));
    dhat::HeapStats::get().total_blocks - before
}

//! Times in turns: each case of a pair runs a batch, one after the other, and the ratio is of the medians.

use std::{hint::black_box, time::Instant};

use axum::{Router, extract::Request};
use bytes::Bytes;
use webhook_benches::*;

const ROUNDS: usize = 4_000;
const BATCH: usize = 20;

fn main() {
    let reason7 = altered(r#""id":4"#, r#""id":7"#);
    println!("decode / serde_json {:.3}", ratio(decode(|b| drop(black_box(decode_ours(b)))), decode(|b| drop(black_box(decode_serde_json(b))))));
    let refused7 = reason7.clone();
    println!("decode reason 7 / good {:.3}", ratio(move || { let _ = black_box(unsubscribe_webhook::UnsubscribeEvent::from_slice(black_box(&refused7))); }, decode(|b| drop(black_box(decode_ours(b))))));
    println!("accepted / floor {:.3}", ratio(accepted(ours()), accepted(floor())));
    println!("accepted / hand-written {:.3}", ratio(accepted(ours()), accepted(hand_written())));
    for (name, bytes) in [("no body", 0), ("500 bytes", 500)] {
        let body = Bytes::from(vec![b'x'; bytes]);
        for (what, token) in [("no token", None), ("wrong token", Some(WRONG))] {
            let (a, b) = (body.clone(), body.clone());
            println!("refused {what}, {name} / hand-written {:.3}", ratio(requests(ours(), move |_| refused(token, &a)), requests(hand_written(), move |_| refused(token, &b))));
        }
    }
    println!("wrong token, example / hand-written {:.3}", ratio(requests(ours(), |_| refused(Some(WRONG), &EXAMPLE)), requests(hand_written(), |_| refused(Some(WRONG), &EXAMPLE))));
}

fn decode(read: impl Fn(&[u8])) -> impl FnMut() -> std::time::Duration {
    move || { let s = Instant::now(); for _ in 0..BATCH { read(black_box(&EXAMPLE)); } s.elapsed() }
}

trait Case { fn run(&mut self) -> f64; }
impl<F: FnMut() -> R, R: Timed> Case for F { fn run(&mut self) -> f64 { let s = Instant::now(); let r = self(); r.time(s) } }
trait Timed { fn time(self, start: Instant) -> f64; }
impl Timed for std::time::Duration { fn time(self, _: Instant) -> f64 { self.as_secs_f64() / BATCH as f64 } }
impl Timed for () { fn time(self, s: Instant) -> f64 { s.elapsed().as_secs_f64() } }

fn accepted(host: Host) -> impl FnMut() -> std::time::Duration {
    check(&host);
    requests(host, |host| host.delivery(&EXAMPLE))
}

fn requests(host: Host, request: impl Fn(&Host) -> Request) -> impl FnMut() -> std::time::Duration {
    let mut app: Router = host.service();
    move || {
        let requests: Vec<_> = (0..BATCH).map(|_| request(&host)).collect();
        let start = Instant::now();
        for request in requests { drop(black_box(answer(&mut app, black_box(request)))); }
        start.elapsed()
    }
}

fn ratio(mut a: impl Case, mut b: impl Case) -> f64 {
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS { x.push(a.run()); y.push(b.run()); }
    let median = |v: &mut Vec<f64>| { v.sort_by(f64::total_cmp); v[v.len() / 2] };
    median(&mut x) / median(&mut y)
}

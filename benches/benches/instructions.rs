//! Instructions, counted by callgrind: they do not move with the machine's load. Run it by
//! `benches/instructions`, which installs what it needs and prints ratios.

use std::hint::black_box;

use axum::{Router, extract::Request};
use bytes::Bytes;
use gungraun::prelude::*;
use webhook_benches::*;

type Prepared = (Router, Request);

fn stranger(host: Host, token: Option<&'static str>, bytes: usize) -> Prepared {
    let body = Bytes::from(vec![b'x'; bytes]);
    warm(&host, || refused(token, &body))
}

fn broken(host: Host, body: Bytes) -> Prepared {
    warm(&host, || host.delivery(&body))
}

/// The router goes out uncounted; the answer is dropped within.
fn run((mut app, request): Prepared) -> Router {
    drop(black_box(answer(&mut app, black_box(request))));
    app
}

#[library_benchmark]
#[bench::ours(delivery(ours()))]
#[bench::floor(delivery(floor()))]
#[bench::hand_written(delivery(hand_written()))]
#[bench::has_header_value(delivery(header_value()))]
#[bench::with_rejection(delivery(with_rejection()))]
#[bench::axum_valid_garde(delivery(valid()))]
#[bench::hmac_standardwebhooks(delivery(standard_webhooks()))]
#[bench::hmac_github(delivery(github()))]
fn accepted(request: Prepared) -> Router {
    run(request)
}

#[library_benchmark]
#[bench::ours(stranger(ours(), None, 0))]
#[bench::ours_500(stranger(ours(), None, 500))]
#[bench::ours_64_kib(stranger(ours(), None, 64 << 10))]
#[bench::ours_1_mib(stranger(ours(), None, 1 << 20))]
#[bench::hand_written(stranger(hand_written(), None, 0))]
#[bench::hand_written_1_mib(stranger(hand_written(), None, 1 << 20))]
fn no_token(request: Prepared) -> Router {
    run(request)
}

#[library_benchmark]
#[bench::ours(stranger(ours(), Some(WRONG), 500))]
#[bench::ours_0(stranger(ours(), Some(WRONG), 0))]
#[bench::ours_64_kib(stranger(ours(), Some(WRONG), 64 << 10))]
#[bench::ours_1_mib(stranger(ours(), Some(WRONG), 1 << 20))]
#[bench::hand_written(stranger(hand_written(), Some(WRONG), 500))]
fn wrong_token(request: Prepared) -> Router {
    run(request)
}

#[library_benchmark]
#[bench::ours(broken(ours(), altered(r#""id":4"#, r#""id":7"#)))]
#[bench::hand_written_accepts(broken(hand_written(), altered(r#""id":4"#, r#""id":7"#)))]
#[bench::ours_cut_off(broken(ours(), cut_off()))]
#[bench::hand_written_cut_off(broken(hand_written(), cut_off()))]
#[bench::ours_no_phone(broken(ours(), altered(r#""phone""#, r#""other""#)))]
#[bench::hand_written_no_phone(broken(hand_written(), altered(r#""phone""#, r#""other""#)))]
fn malformed(request: Prepared) -> Router {
    run(request)
}

/// One reading of a body, to be counted.
fn reading<T: 'static>(read: fn(&[u8]) -> T, bytes: usize, hard: bool) -> Box<dyn FnOnce()> {
    let body = long_body(bytes, hard);
    drop(read(&body));
    Box::new(move || drop(black_box(read(black_box(&body)))))
}

macro_rules! decoding {
    ($($group:ident: $bytes:expr, $hard:expr;)*) => {$(
        #[library_benchmark]
        #[bench::ours(reading(decode_ours, $bytes, $hard))]
        #[bench::serde_json(reading(decode_serde_json, $bytes, $hard))]
        #[bench::sonic_rs(reading(decode_sonic, $bytes, $hard))]
        #[bench::simd_json(reading(decode_simd, $bytes, $hard))]
        fn $group(read: Box<dyn FnOnce()>) {
            read();
        }
    )*};
}

decoding! {
    decode_example: 0, false;
    decode_2_kib: 2 << 10, false;
    decode_16_kib: 16 << 10, false;
    decode_64_kib: 64 << 10, false;
    decode_2_kib_escaped: 2 << 10, true;
    decode_16_kib_escaped: 16 << 10, true;
    decode_64_kib_escaped: 64 << 10, true;
}

library_benchmark_group!(
    name = all,
    benchmarks = [
        accepted,
        no_token,
        wrong_token,
        malformed,
        decode_example,
        decode_2_kib,
        decode_16_kib,
        decode_64_kib,
        decode_2_kib_escaped,
        decode_16_kib_escaped,
        decode_64_kib_escaped,
    ]
);
main!(library_benchmark_groups = all);

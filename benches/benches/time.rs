//! Times of all cases, and their ratios: `cargo bench --bench time`.

use std::{
    fs,
    hint::black_box,
    path::PathBuf,
    time::{Duration, Instant},
};

use axum::{Router, extract::Request};
use bytes::Bytes;
use criterion::{BatchSize, Bencher, BenchmarkId, Criterion, Throughput};
use webhook_benches::*;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    accepted(&mut criterion);
    refusals(&mut criterion);
    malformed(&mut criterion);
    decoding(&mut criterion);
    criterion.final_summary();
    print_ratios();
    print_side_by_side();
}

fn accepted(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("accepted");
    for (name, host) in hosts() {
        check(&host);
        group.bench_function(name, |bencher| {
            requests(bencher, &host, || host.delivery(&EXAMPLE));
        });
    }
}

fn refusals(criterion: &mut Criterion) {
    for (group, token) in [("refused, no token", None), ("refused, wrong token", Some(WRONG))] {
        let mut group = criterion.benchmark_group(group);
        for bytes in [0, 500, 64 << 10, 1 << 20] {
            let body = Bytes::from(vec![b'x'; bytes]);
            for (name, host) in [("ours", ours()), ("hand-written", hand_written())] {
                group.bench_function(BenchmarkId::new(name, bytes), |bencher| {
                    requests(bencher, &host, || refused(token, &body));
                });
            }
        }
    }
}

fn malformed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("malformed");
    let bodies = [
        ("cut off", cut_off()),
        ("reason 7", altered(r#""id":4"#, r#""id":7"#)),
        ("no phone", altered(r#""phone""#, r#""other""#)),
    ];
    for (fault, body) in bodies {
        for (name, host) in [("ours", ours()), ("hand-written", hand_written())] {
            group.bench_function(BenchmarkId::new(name, fault), |bencher| {
                requests(bencher, &host, || host.delivery(&body));
            });
        }
    }
}

/// One request after the other; making it is not measured.
fn requests(bencher: &mut Bencher<'_>, host: &Host, request: impl Fn() -> Request) {
    let mut app = host.service();
    bencher.iter_batched(request, |request| answer(&mut app, request), BatchSize::SmallInput);
}

fn decoding(criterion: &mut Criterion) {
    for (group, hard) in [("decode, plain text", false), ("decode, escapes and umlauts", true)] {
        let mut group = criterion.benchmark_group(group);
        for bytes in [500, 2 << 10, 16 << 10, 64 << 10] {
            let body = long_body(bytes, hard);
            group.throughput(Throughput::Bytes(body.len() as u64));
            macro_rules! reader {
                ($name:literal, $decode:path) => {
                    group.bench_with_input(
                        BenchmarkId::new($name, bytes),
                        &body,
                        |bencher, body| {
                            bencher.iter(|| $decode(black_box(body)));
                        },
                    );
                };
            }
            reader!("ours", decode_ours);
            reader!("serde_json", decode_serde_json);
            reader!("sonic-rs", decode_sonic);
            reader!("simd-json", decode_simd);
        }
    }
}

/// Each peer's median beside ours, from what criterion has just written.
fn print_ratios() {
    println!("\n{:<34} {:<28} {:>10} {:>12}", "case", "peer", "median ns", "ours / peer");
    let mut groups: Vec<_> = entries(&target());
    groups.retain(|group| group.join("ours").exists());
    for group in groups {
        for peer in entries(&group) {
            let direct = peer.join("new/benchmark.json").exists();
            let cases = if direct { vec![peer] } else { entries(&peer) };
            for case in cases {
                let Some((id, median)) = result(&case) else { continue };
                let (title, function, value) = id;
                let ours = group.join("ours").join(&value).join("new/estimates.json");
                let Some(ours) = median_of(&ours) else { continue };
                let title = if value.is_empty() { title } else { format!("{title}, {value}") };
                println!("{title:<34} {function:<28} {median:>10.0} {:>12.3}", ours / median);
            }
        }
    }
}

/// criterion measures one case after the other, and the machine changes meanwhile. So the ratios
/// that matter are measured once more, in turns of a few hundred microseconds.
fn print_side_by_side() {
    const ROUNDS: usize = 400;
    const REQUESTS: usize = 200;

    let batch = |host: &Host, app: &mut Router, request: &dyn Fn(&Host) -> Request| {
        let requests: Vec<_> = (0..REQUESTS).map(|_| request(host)).collect();
        let start = Instant::now();
        for request in requests {
            drop(black_box(answer(app, request)));
        }
        start.elapsed().as_secs_f64()
    };
    let compare = |case: &str, name: &str, peer: &Host, request: &dyn Fn(&Host) -> Request| {
        let ours = ours();
        let (mut our_app, mut peer_app) = (ours.service(), peer.service());
        let mut ratios: Vec<f64> = (0..ROUNDS)
            .map(|round| {
                // Who goes first changes too.
                if round % 2 == 0 {
                    let ours = batch(&ours, &mut our_app, request);
                    ours / batch(peer, &mut peer_app, request)
                } else {
                    let peer = batch(peer, &mut peer_app, request);
                    batch(&ours, &mut our_app, request) / peer
                }
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let [low, median, high] = [1, 2, 3].map(|quarter| ratios[ROUNDS * quarter / 4]);
        println!("{case:<34} {name:<28} {median:>10.3} {low:>8.3} to {high:.3}");
    };

    println!("\n{:<34} {:<28} {:>10} {:>8}", "in turns", "peer", "ours/peer", "quartiles");
    for (name, peer) in hosts().into_iter().skip(1) {
        compare("accepted", name, &peer, &|host| host.delivery(&EXAMPLE));
    }
    let peer = hand_written();
    compare("wrong token", "hand-written", &peer, &|_| refused(Some(WRONG), &EXAMPLE));
    compare("no token", "hand-written", &peer, &|_| refused(None, &EXAMPLE));
}

fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    target.join("criterion")
}

fn entries(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() && path.file_name().is_some_and(|name| name != "report"))
        .collect();
    entries.sort_by_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name.parse::<u64>().unwrap_or(0), name)
    });
    entries
}

fn result(case: &std::path::Path) -> Option<((String, String, String), f64)> {
    let text = fs::read(case.join("new/benchmark.json")).ok()?;
    let id: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let field = |name: &str| id[name].as_str().unwrap_or_default().to_owned();
    let names = (field("group_id"), field("function_id"), field("value_str"));
    Some((names, median_of(&case.join("new/estimates.json"))?))
}

fn median_of(estimates: &std::path::Path) -> Option<f64> {
    let estimates: serde_json::Value = serde_json::from_slice(&fs::read(estimates).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

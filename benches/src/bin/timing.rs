//! Whether the time of a refusal reveals how much of a guessed secret is right, after dudect
//! (Reparaz, Balasch, Verbauwhede, 2017), through the public service.
//!
//! Guesses of several classes come in random order, and only the call that decides is timed.
//! Welch's t-test compares each class with guesses that are wrong in every byte. As in dudect, the
//! test is repeated with the slowest samples cropped, at 100 percentiles of both classes together
//! from 7 % to 99.9 %, and the largest |t| counts. A class is distinguishable if it reaches 4.5 and the
//! means differ by 0.1 ns. Guesses of the right length must not be, and comparisons that stop early
//! must. If these are not, or two equal classes of guesses are, the machine is too noisy.

use std::{fmt, future::ready, hint::black_box, iter::repeat_n, process::ExitCode, time::Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use rand::{RngExt, rngs::SmallRng, seq::SliceRandom};
use tower::{BoxError, Layer, Service, service_fn};
use unsubscribe_webhook::{Credential, WebhookAuth};

const RUNS: usize = 3;
const SAMPLES: usize = 1_000_000;
const WARM_UP: usize = 20_000;
const LIMIT: f64 = 4.5;
const LEAST: f64 = 0.1; // of 0.4 for each right byte in the control

/// Long for a secret: a leak grows with each byte.
const LENGTH: usize = 256;

const TOKEN: HeaderName = HeaderName::from_static("x-lox24-token");

type Guess = Request<Empty<Bytes>>;

fn main() -> ExitCode {
    let mut random: SmallRng = rand::make_rng();
    let (mut leaks, mut too_noisy) = (false, false);
    let differs = |it: &Measured| it.t >= LIMIT && it.difference.abs() >= LEAST;
    println!("{SAMPLES} samples of each class, secrets of {LENGTH} bytes, times in ns");
    for run in 1..=RUNS {
        println!("\nrun {run}{:>55} {:>10} {:>8} {:>8}", "mean", "difference", "± 95 %", "max |t|");
        for case in CASES {
            let secret = new_secret(&mut random);
            let results = (case.measure)(&secret, &mut random);
            let mut is_distinguishable = false;
            for (class, result) in CLASSES[1..].iter().zip(&results) {
                println!("{:<22} {:<29} {result}", case.name, class.name);
                is_distinguishable |= class.length == LENGTH && differs(result);
            }
            // The first class is the reference again: what distinguishes it is the machine.
            let noisy = if case.is_control { !is_distinguishable } else { differs(&results[0]) };
            too_noisy |= noisy;
            leaks |= !noisy && !case.is_control && is_distinguishable;
        }
    }
    println!();
    if leaks {
        println!("FAILED: the time of a refusal reveals how much of a guess is right.");
    }
    if too_noisy {
        println!(
            "FAILED: the machine is too noisy. Equal classes differ, or a control is not detected."
        );
    }
    if !leaks && !too_noisy {
        println!("No class of the right length is distinguishable, the controls are.");
    }
    ExitCode::from(u8::from(leaks || too_noisy))
}

/// Guesses that are wrong in some of the secret's bytes.
struct Class {
    name: &'static str,
    /// One of another length is reported, but does not fail: the length is not hidden.
    length: usize,
    wrong: fn(usize) -> bool,
}

/// The first one is what the others are compared with.
const CLASSES: [Class; 7] = [
    Class { name: "wrong in every byte", length: LENGTH, wrong: |_| true },
    Class { name: "wrong in every byte, again", length: LENGTH, wrong: |_| true },
    Class { name: "wrong in the first byte", length: LENGTH, wrong: |at| at == 0 },
    Class { name: "wrong in the last byte", length: LENGTH, wrong: |at| at == LENGTH - 1 },
    Class { name: "wrong in the last half", length: LENGTH, wrong: |at| at >= LENGTH / 2 },
    Class { name: "a byte shorter, not hidden", length: LENGTH - 1, wrong: |_| false },
    Class { name: "a byte longer, not hidden", length: LENGTH + 1, wrong: |_| false },
];

/// What decides on the guesses.
struct Case {
    name: &'static str,
    is_control: bool,
    measure: fn(&str, &mut SmallRng) -> Vec<Measured>,
}

const CASES: [Case; 5] = [
    Case {
        name: "token",
        is_control: false,
        measure: |secret, random| {
            measure_layer(WebhookAuth::new(secret), by_header, secret, random)
        },
    },
    Case {
        name: "last of two tokens",
        is_control: false,
        measure: |secret, random| {
            let last = Credential::token(secret).expect("usable");
            let auth = WebhookAuth::new(new_secret(random)).or(last);
            measure_layer(auth, by_header, secret, random)
        },
    },
    Case {
        name: "query parameter",
        is_control: false,
        measure: |secret, random| {
            let credential = Credential::query("token", secret).expect("usable");
            measure_layer(credential.into(), by_query, secret, random)
        },
    },
    Case {
        name: "control: ==",
        is_control: true,
        measure: |secret, random| measure_control(|given, secret| given == secret, secret, random),
    },
    Case {
        name: "control: byte by byte",
        is_control: true,
        measure: |secret, random| {
            let is_equal = |given: &[u8], secret: &[u8]| {
                given.len() == secret.len() && given.iter().zip(secret).all(|(a, b)| a == b)
            };
            measure_control(is_equal, secret, random)
        },
    },
];

fn measure_layer(
    auth: WebhookAuth,
    request: fn(&[u8]) -> Guess,
    secret: &str,
    random: &mut SmallRng,
) -> Vec<Measured> {
    let inner = service_fn(async |_: Guess| -> Result<Response<Bytes>, BoxError> {
        unreachable!("every guess is wrong")
    });
    measure(auth.layer(inner), request, secret, random)
}

fn measure_control(
    is_equal: fn(&[u8], &[u8]) -> bool,
    secret: &str,
    random: &mut SmallRng,
) -> Vec<Measured> {
    let service = service_fn(|request: Guess| {
        assert!(!is_equal(request.headers()[TOKEN].as_bytes(), secret.as_bytes()));
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        ready(Ok::<_, BoxError>(response))
    });
    measure(service, by_header, secret, random)
}

/// Each class but the first, compared with it.
fn measure<S: Service<Guess>>(
    mut service: S,
    request: fn(&[u8]) -> Guess,
    secret: &str,
    random: &mut SmallRng,
) -> Vec<Measured> {
    let masks = CLASSES.map(|class| {
        std::array::from_fn::<u8, { LENGTH + 1 }, _>(|at| if (class.wrong)(at) { 0xff } else { 0 })
    });
    let lengths = CLASSES.map(|class| class.length);
    let mut padded = [b'a'; LENGTH + 1];
    padded[..LENGTH].copy_from_slice(secret.as_bytes());

    let schedule = new_schedule(random);
    let mut ticks = vec![0; schedule.len()];
    let (start, first) = (Instant::now(), now());
    for (class, ticks) in schedule.iter().zip(&mut ticks) {
        // Whatever the class, the same work on the same memory makes the guess.
        let flip = random.random_range(1..16);
        let mask = &masks[usize::from(*class)];
        let guess: [u8; LENGTH + 1] = std::array::from_fn(|at| padded[at] ^ (mask[at] & flip));
        let request = request(black_box(&guess[..lengths[usize::from(*class)]]));
        *ticks = timed(&mut service, request);
    }
    let ns_per_tick = start.elapsed().as_nanos() as f64 / (now() - first) as f64;

    let mut classes = CLASSES.map(|_| Vec::with_capacity(SAMPLES));
    for (class, ticks) in schedule.iter().zip(&ticks).skip(WARM_UP) {
        classes[usize::from(*class)].push(*ticks as f64 * ns_per_tick);
    }
    let [reference, others @ ..] = classes.map(Sorted::new);
    others.iter().map(|class| Measured::new(class, &reference)).collect()
}

/// Only the call that decides.
#[inline(never)]
fn timed<S: Service<Guess>>(service: &mut S, request: Guess) -> u64 {
    let request = black_box(request);
    let start = now();
    let future = black_box(service.call(request));
    let ticks = now() - start;
    drop(future);
    ticks
}

#[cfg(target_arch = "x86_64")]
fn now() -> u64 {
    use std::arch::x86_64::{_mm_lfence, _rdtsc};
    // SAFETY: every x86-64 has both instructions. The fences keep the call between the two reads.
    unsafe {
        _mm_lfence();
        let ticks = _rdtsc();
        _mm_lfence();
        ticks
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn now() -> u64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed().as_nanos() as u64
}

fn by_header(guess: &[u8]) -> Guess {
    let mut request = Request::new(Empty::new());
    request.headers_mut().insert(TOKEN, HeaderValue::from_bytes(guess).expect("letters"));
    request
}

fn by_query(guess: &[u8]) -> Guess {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::try_from([b"/?token=", guess].concat()).expect("letters");
    request
}

/// The samples of a class, and the sums of the fastest ones: the index is their number.
struct Sorted {
    times: Vec<f64>,
    sums: Vec<Sums>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    times: f64,
    squares: f64,
}

impl Sorted {
    fn new(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let mut sum = Sums::default();
        let mut sums = vec![sum];
        for time in &times {
            sum.times += time;
            sum.squares += time * time;
            sums.push(sum);
        }
        Self { times, sums }
    }

    fn up_to(&self, limit: f64) -> Sample {
        let index = self.times.partition_point(|time| *time <= limit);
        let (number, sum) = (index as f64, self.sums[index]);
        let mean = sum.times / number;
        Sample { number, mean, variance: (sum.squares - sum.times * mean) / (number - 1.0) }
    }
}

struct Sample {
    number: f64,
    mean: f64,
    variance: f64,
}

/// A class compared with the reference.
struct Measured {
    /// Of the samples up to the 90th percentile of both classes.
    mean: f64,
    difference: f64,
    /// Half of the difference's 95 % confidence interval.
    error: f64,
    /// The largest of all crops.
    t: f64,
}

impl Measured {
    fn new(class: &Sorted, reference: &Sorted) -> Self {
        let mut all = [&class.times[..], &reference.times[..]].concat();
        all.sort_by(f64::total_cmp);
        let cropped = |part: f64| {
            let limit = all[((all.len() - 1) as f64 * part) as usize];
            Difference::new(&class.up_to(limit), &reference.up_to(limit))
        };
        // dudect's percentiles, and one test of everything.
        let parts = (1..=100).map(|step| 1.0 - 0.5_f64.powf(f64::from(step) / 10.0)).chain([1.0]);
        let t = parts.map(|part| cropped(part).t()).fold(0.0, f64::max);

        let Difference { of_means, error } = cropped(0.9);
        let mean = class.up_to(all[all.len() * 9 / 10]).mean;
        Self { mean, difference: of_means, error: 1.96 * error, t }
    }
}

struct Difference {
    of_means: f64,
    error: f64,
}

impl Difference {
    fn new(class: &Sample, reference: &Sample) -> Self {
        let variance = class.variance / class.number + reference.variance / reference.number;
        Self { of_means: class.mean - reference.mean, error: variance.sqrt() }
    }

    /// Welch's |t|; 0 where the crop leaves one class too few samples.
    fn t(&self) -> f64 {
        if self.error > 0.0 { (self.of_means / self.error).abs() } else { 0.0 }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mean, difference, error, t } = self;
        write!(f, "{mean:>8.1} {difference:>10.3} {error:>8.3} {t:>8.1}")
    }
}

/// Letters from `a` to `o`: where their low bits flip, a header and a query still take them.
fn new_secret(random: &mut SmallRng) -> String {
    (0..LENGTH).map(|_| char::from(random.random_range(b'a'..=b'o'))).collect()
}

/// The classes of all guesses: any for warming up, then equally many of each in random order.
fn new_schedule(random: &mut SmallRng) -> Vec<u8> {
    let classes = 0..CLASSES.len() as u8;
    let mut classes: Vec<u8> = classes.flat_map(|class| repeat_n(class, SAMPLES)).collect();
    classes.shuffle(random);
    [&classes[..WARM_UP], &classes].concat()
}

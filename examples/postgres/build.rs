//! The migrations are part of the binary, which the compiler does not know.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}

//! Prints the list that is stored in `docs/public-api.txt`.

fn main() {
    print!("{}", public_api::of_the_library());
}

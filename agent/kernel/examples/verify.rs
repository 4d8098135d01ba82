//! Loads the programs and says how much the verifier had to look at: `cargo run -p weir-kernel --example verify`.

use weir_kernel::pins::Pins;
use weir_kernel::{Datapath, Options};

fn main() -> Result<(), weir_kernel::KernelError> {
    let pins = Pins::named(&format!("verify-{}", std::process::id()));
    let loaded =
        Datapath::load(pins.clone(), "none", 0, Options::default()).and_then(|mut d| d.verified_instructions());
    weir_kernel::datapath::unload(&pins)?;
    let [xdp, tc] = loaded?.map(Option::unwrap_or_default);
    println!("verified instructions: XDP {xdp}, TC {tc}");
    Ok(())
}

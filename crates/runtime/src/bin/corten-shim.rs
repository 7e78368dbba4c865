//! `corten-shim`: the zygote, and by forking the monitor of each container. Started by the engine, not by people.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("zygote") => {
            // Containers could reach the program's file through /proc; this also makes an upgrade on disk harmless.
            if let Err(error) = corten_sys::exe::ensure_sealed() {
                eprintln!("corten-shim: run from a sealed copy: {error}");
                return ExitCode::FAILURE;
            }
            ExitCode::from(corten_runtime::monitor::serve_zygote() as u8)
        }
        Some("--version") => {
            println!("corten-shim {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!(
                "corten-shim is started by `corten daemon`; it does nothing on its own.\nSee `corten --help`."
            );
            ExitCode::from(2)
        }
    }
}

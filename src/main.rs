//! Start and exit status.

use proxy_wstunnel::cli::{self, Command};
use proxy_wstunnel::server;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match cli::command(&arguments) {
        Command::Run(config, sources) => server::run(*config, sources),
        Command::Check(config, sources) => {
            ExitCode::from(cli::judge(server::check(&config, &sources)))
        }
        Command::Exit(status) => ExitCode::from(status),
    }
}

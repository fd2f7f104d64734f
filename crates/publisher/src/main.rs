//! The `bellwire-publisher` program.

use std::process::ExitCode;

use bellwire_publisher::check::check;
use bellwire_publisher::probe::{Question, probe};
use bellwire_publisher::run::{one_thread, stop_signal};
use bellwire_publisher::settings::LogStyle;
use bellwire_publisher::{Flags, Settings, run};
use bellwire_telemetry::{LogFormat, Unexported, hold_lines};
use clap::Parser as _;
use tokio_util::sync::CancellationToken;

/// What the AWS SDK asks of an allocator, thousands of small pieces a call, costs half
/// as much of the CPU with this one as with the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FAILED: u8 = 1;
const WRONG_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    let flags = Flags::parse();
    match one_thread() {
        Ok(runtime) => runtime.block_on(publisher(flags)),
        Err(error) => failed(FAILED, &error),
    }
}

async fn publisher(flags: Flags) -> ExitCode {
    if let Some(question) = flags.probe {
        return asked(&flags, question).await;
    }
    let (is_check, format) = (flags.check, log_format(&flags));
    let settings = match Settings::of(flags) {
        Ok(settings) => settings,
        Err(error) => return failed(WRONG_SETTINGS, &error),
    };
    if is_check {
        let report = check(&settings).await;
        print!("{report}");
        return if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) };
    }
    let telemetry = match bellwire_telemetry::init(
        &settings.deployment.publisher(),
        format,
        Unexported::NoSpans,
    ) {
        Ok(telemetry) => telemetry,
        Err(error) => return failed(FAILED, &error),
    };
    hold_lines();
    let shutdown = CancellationToken::new();
    let stopped = shutdown.clone();
    tokio::spawn(async move {
        match stop_signal().await {
            Ok(signal) => tracing::info!(signal, "stopping"),
            Err(error) => tracing::error!(%error, "no signals can be waited for: stopping"),
        }
        stopped.cancel();
    });
    let ended = run(settings, shutdown).await;
    telemetry.shutdown();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(FAILED, &error),
    }
}

async fn asked(flags: &Flags, question: Question) -> ExitCode {
    let address = match Settings::listen_of(flags) {
        Ok(address) => address,
        Err(error) => return failed(WRONG_SETTINGS, &error),
    };
    match probe(&address, question).await {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(FAILED, &error),
    }
}

fn log_format(flags: &Flags) -> LogFormat {
    match flags.log_format {
        LogStyle::Auto => LogFormat::Auto,
        LogStyle::Human => LogFormat::Human,
        LogStyle::Json => LogFormat::Json,
    }
}

fn failed(code: u8, error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because {error}");
        cause = error.source();
    }
    ExitCode::from(code)
}

//! The command line: httpd's options, what is printed, and the exit status.
//!
//! argh parses; a small pass before it takes apart what argh does not know and httpd's users write: attached values
//! (`-DFOREGROUND`), grouped switches (`-tS`), `--long=value`. Source: httpd server/main.c `main`.

use crate::config::{self, Config, ConfigWarning, DEFAULT_FILE, Sources, directives};
use crate::config_files::Machine;
use argh::FromArgs;
use std::io::{self, Write};
use std::path::PathBuf;

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run the server.
    Run(Box<Config>),
    /// All is said and done: exit with this status, 0 or 1.
    Exit(u8),
}

/// Reads the arguments (without the program's name) and the configuration they name, and prints what is to be printed:
/// answers on the standard output; errors, warnings, usage and `Syntax OK` on the standard error, as httpd.
#[must_use]
pub fn command(arguments: &[String]) -> Command {
    // A reader that went away is no reason to fail, so what cannot be printed is dropped.
    run(arguments, &mut io::stdout(), &mut io::stderr()).unwrap_or(Command::Exit(1))
}

const NAME: &str = env!("CARGO_PKG_NAME");

/// A WebSocket tunnelling reverse proxy with the directives of Apache httpd. It runs in the foreground until SIGTERM or
/// SIGINT; SIGHUP or SIGUSR1 reopen its logs.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
struct Options {
    /// the configuration file, below the current folder; without it and without -c and -C:
    /// /etc/proxy-wstunnel/proxy-wstunnel.conf
    #[argh(option, short = 'f')]
    file: Vec<PathBuf>,

    /// a directive that is read before the file; may be repeated
    #[argh(option, short = 'C', arg_name = "directive")]
    before: Vec<String>,

    /// a directive that is read after the file; may be repeated
    #[argh(option, short = 'c', arg_name = "directive")]
    after: Vec<String>,

    /// a name that <IfDefine> finds; may be repeated
    #[argh(option, short = 'D', arg_name = "name")]
    define: Vec<String>,

    /// check the configuration, print "Syntax OK" and exit
    #[argh(switch, short = 't')]
    test: bool,

    /// print the resolved listeners, hosts and mappings and exit
    #[argh(switch, short = 'S')]
    show: bool,

    /// print the directives with their syntax, default and contexts and exit
    #[argh(switch, short = 'L')]
    list: bool,

    /// print the version and exit
    #[argh(switch, short = 'v')]
    version: bool,
}

/// The options that take a value, short and long.
const WITH_VALUE: [(char, &str); 4] = [
    ('f', "--file"),
    ('C', "--before"),
    ('c', "--after"),
    ('D', "--define"),
];

fn run(arguments: &[String], out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Command> {
    let arguments = take_apart(arguments);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let options = match Options::from_args(&[NAME], &arguments) {
        Ok(options) => options,
        Err(exit) if exit.status.is_ok() => {
            out.write_all(exit.output.as_bytes())?;
            return Ok(Command::Exit(0));
        }
        Err(exit) => {
            writeln!(err, "{NAME}: {}", exit.output.trim_end())?;
            err.write_all(usage().as_bytes())?;
            return Ok(Command::Exit(1));
        }
    };
    if options.version {
        writeln!(out, "{NAME} {} ({})", env!("CARGO_PKG_VERSION"), tls())?;
        return Ok(Command::Exit(0));
    }
    if options.list {
        list(out)?;
        return Ok(Command::Exit(0));
    }
    let (test, show) = (options.test, options.show);
    let config = match config::load(&options.into_sources(), &Machine) {
        Ok(config) => config,
        Err(errors) => {
            for error in errors {
                writeln!(err, "{error}")?;
            }
            return Ok(Command::Exit(1));
        }
    };
    if !test && !show {
        return Ok(Command::Run(Box::new(config)));
    }
    warn(&config.warnings, err)?;
    if show {
        out.write_all(config.summary().as_bytes())?;
    } else {
        writeln!(err, "Syntax OK")?;
    }
    Ok(Command::Exit(0))
}

impl Options {
    fn into_sources(self) -> Sources {
        // httpd: a relative -f is below ServerRoot there. A shell completes names below the current folder.
        let complete = !self.before.is_empty() || !self.after.is_empty();
        let file = self.file.into_iter().next_back();
        Sources {
            file: file.or_else(|| (!complete).then(|| DEFAULT_FILE.into())),
            before: self.before,
            after: self.after,
            defines: self.define,
        }
    }
}

/// Splits what argh takes as one word: `-DNAME` to `-D NAME`, `-tS` to `-t -S`, `--x=y` to `--x y`. The word behind an
/// option with a value is that value, whatever it looks like.
fn take_apart(arguments: &[String]) -> Vec<String> {
    let mut apart = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut wants_value = false;
        if argument.starts_with("--") {
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            };
            wants_value = value.is_none() && WITH_VALUE.iter().any(|(_, long)| *long == name);
            apart.push(name.to_owned());
            apart.extend(value.map(str::to_owned));
        } else if let Some(letters) = argument.strip_prefix('-').filter(|l| !l.is_empty()) {
            let mut rest = letters.chars();
            while let Some(letter) = rest.next() {
                apart.push(format!("-{letter}"));
                if WITH_VALUE.iter().any(|(short, _)| *short == letter) {
                    let attached = rest.as_str();
                    wants_value = attached.is_empty();
                    apart.extend((!attached.is_empty()).then(|| attached.to_owned()));
                    break;
                }
            }
        } else {
            apart.push(argument.clone());
        }
        if wants_value {
            apart.extend(arguments.next().cloned());
        }
    }
    apart
}

fn usage() -> String {
    match Options::from_args(&[NAME], &["--help"]) {
        Err(exit) => exit.output,
        Ok(_) => String::new(),
    }
}

/// The directives as the table has them.
fn list(out: &mut dyn Write) -> io::Result<()> {
    for entry in directives::TABLE {
        match entry.name.strip_suffix('>') {
            Some(section) => writeln!(out, "{section} {}>", entry.syntax)?,
            None => writeln!(out, "{} {}", entry.name, entry.syntax)?,
        }
        writeln!(out, "    {}", entry.help)?;
        writeln!(out, "    default: {}", entry.default.unwrap_or("none"))?;
        let contexts: Vec<String> = entry.contexts.iter().map(ToString::to_string).collect();
        writeln!(out, "    allowed in: {}", contexts.join(", "))?;
    }
    Ok(())
}

fn warn(warnings: &[ConfigWarning], err: &mut dyn Write) -> io::Result<()> {
    for warning in warnings {
        writeln!(err, "{warning}")?;
    }
    Ok(())
}

fn tls() -> &'static str {
    if cfg!(feature = "tls") {
        "tls by OpenSSL"
    } else {
        "no tls"
    }
}

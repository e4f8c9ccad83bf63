//! The command line: httpd's options, what is printed, and the exit status.
//!
//! argh parses; a small pass before it takes apart what argh does not know and httpd's users write: attached values
//! (`-DFOREGROUND`), grouped switches (`-tS`), `--long=value`. Source: httpd server/main.c `main`.

use crate::config::{
    self, Config, ConfigWarning, DEFAULT_FILE, DEFAULT_SOCKET, Sources, directives,
};
use crate::config_files::Machine;
use crate::control_client::{self, Failure, Order};
use crate::explain::{Question, explain};
use crate::pid_file::{Demand, Running};
use argh::FromArgs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run the server, and read its configuration again from there when it is told to.
    Run(Box<Config>, Sources),
    /// The configuration is sound, and what it names is still to be read: then [`judge`] has the last word.
    Check(Box<Config>, Sources),
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

/// A WebSocket tunnelling reverse proxy with the directives of Apache httpd.
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"))]
#[argh(
    note = "It runs in the foreground. SIGTERM and SIGINT stop it, SIGWINCH once its clients are served; SIGHUP and SIGUSR1 reload its configuration."
)]
#[argh(error_code(0, "stopped, or the configuration is correct"))]
#[argh(error_code(
    1,
    "a usage or configuration error, or an address cannot be listened on"
))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
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

    /// start, or ask the process that runs with the same PidFile to: stop, graceful, graceful-stop, restart, upgrade
    #[argh(option, short = 'k', arg_name = "what")]
    signal: Option<String>,

    /// check the configuration, print "Syntax OK" and exit
    #[argh(switch, short = 't')]
    test: bool,

    /// print the resolved listeners, hosts and mappings and exit
    #[argh(switch, short = 'S')]
    show: bool,

    /// print what would become of this request, such as "GET /ws/ HTTP/1.1", and exit
    #[argh(option, arg_name = "request-line")]
    explain: Option<String>,

    /// a header field "Name: value" of the request to explain; may be repeated; without a value: the field is missing
    #[argh(option, short = 'H', arg_name = "field")]
    header: Vec<String>,

    /// the client's address for the request to explain; 127.0.0.1 without it
    #[argh(option, arg_name = "address")]
    client: Option<IpAddr>,

    /// print the directives with their syntax, default and contexts and exit
    #[argh(switch, short = 'L')]
    list: bool,

    /// print what the running server does now, and exit
    #[argh(switch)]
    status: bool,

    /// print it as JSON
    #[argh(switch)]
    json: bool,

    /// end the tunnel with this number, as --status and the logs name it
    #[argh(option, arg_name = "id")]
    end: Option<u64>,

    /// why it ends, as a status of Close frames: 1000 to 1003, 1007 to 1014 or 3000 to 4999
    #[argh(option, arg_name = "code")]
    code: Option<u16>,

    /// send no new sessions to this member of a balancer, named by its URL
    #[argh(option, arg_name = "member")]
    drain: Option<String>,

    /// use a member again that was drained
    #[argh(option, arg_name = "member")]
    undrain: Option<String>,

    /// the control socket of the running server; without it the one that the configuration names
    #[argh(option, arg_name = "path")]
    control: Option<PathBuf>,

    /// print the version and exit
    #[argh(switch, short = 'v')]
    version: bool,
}

/// The options that take a value, short and long.
const WITH_VALUE: [(Option<char>, &str); 13] = [
    (Some('f'), "--file"),
    (Some('C'), "--before"),
    (Some('c'), "--after"),
    (Some('D'), "--define"),
    (Some('H'), "--header"),
    (Some('k'), "--signal"),
    (None, "--explain"),
    (None, "--client"),
    (None, "--end"),
    (None, "--code"),
    (None, "--drain"),
    (None, "--undrain"),
    (None, "--control"),
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
    match options.order() {
        Ok(Some(order)) => return order_of(options, &order, out, err),
        Ok(None) => {}
        Err(problem) => {
            writeln!(err, "{NAME}: {problem}")?;
            return Ok(Command::Exit(1));
        }
    }
    let (test, show) = (options.test, options.show);
    let (question, demand) = match options.question().and_then(|q| Ok((q, options.demand()?))) {
        Ok(asked) => asked,
        Err(problem) => {
            writeln!(err, "{NAME}: {problem}")?;
            return Ok(Command::Exit(1));
        }
    };
    let sources = options.into_sources();
    let config = match config::load(&sources, &Machine) {
        Ok(config) => config,
        Err(errors) => {
            for error in errors {
                writeln!(err, "{error}")?;
            }
            return Ok(Command::Exit(1));
        }
    };
    if let Some(question) = question {
        return match explain(&config, &question) {
            Ok(told) => {
                out.write_all(told.as_bytes())?;
                Ok(Command::Exit(0))
            }
            Err(problem) => {
                writeln!(err, "{NAME}: {problem}")?;
                Ok(Command::Exit(1))
            }
        };
    }
    if let Some(demand) = demand {
        return match ask(&config, demand) {
            Ok(()) => Ok(Command::Exit(0)),
            Err(problem) => {
                writeln!(err, "{NAME}: {problem}")?;
                Ok(Command::Exit(1))
            }
        };
    }
    if !test && !show {
        return Ok(Command::Run(Box::new(config), sources));
    }
    warn(&config.warnings, err)?;
    if show {
        out.write_all(config.summary().as_bytes())?;
    } else {
        return Ok(Command::Check(Box::new(config), sources));
    }
    Ok(Command::Exit(0))
}

/// Asks the running server.
fn order_of(
    options: Options,
    order: &Order,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Command> {
    let named = options.control.clone();
    let path = named.unwrap_or_else(|| {
        let control = config::control(&options.into_sources(), &Machine);
        let mut sockets = control.sockets.into_iter();
        sockets
            .next()
            .map_or_else(|| DEFAULT_SOCKET.into(), |socket| socket.path)
    });
    match control_client::ask(&path, order, out) {
        Ok(()) => Ok(Command::Exit(0)),
        Err(Failure::Unwritten(error)) => Err(error),
        Err(failure) => {
            writeln!(err, "{NAME}: {failure}")?;
            Ok(Command::Exit(1))
        }
    }
}

impl Options {
    /// What the running server is to be asked for.
    fn order(&self) -> Result<Option<Order>, &'static str> {
        let status = match (self.status, self.json) {
            (true, true) => Some(Order::StatusAsJson),
            (true, false) => Some(Order::Status),
            (false, true) => return Err("--json belongs to --status"),
            (false, false) => None,
        };
        if self.code.is_some() && self.end.is_none() {
            return Err("--code belongs to --end");
        }
        let orders = [
            status,
            self.end.map(|id| Order::End {
                id,
                code: self.code,
            }),
            self.drain.clone().map(Order::Drain),
            self.undrain.clone().map(Order::Undrain),
        ];
        let mut orders = orders.into_iter().flatten();
        let order = orders.next();
        if order.is_none() && self.control.is_some() {
            return Err("--control belongs to --status, --end, --drain and --undrain");
        }
        let others = [
            self.test,
            self.show,
            self.explain.is_some(),
            self.signal.is_some(),
            orders.next().is_some(),
        ];
        if order.is_some() && others.contains(&true) {
            return Err(
                "the running server is asked for one thing at a time, and for nothing of a configuration",
            );
        }
        Ok(order)
    }

    /// The request that is to be explained.
    fn question(&self) -> Result<Option<Question>, String> {
        let Some(request_line) = self.explain.clone() else {
            if !self.header.is_empty() || self.client.is_some() {
                return Err("-H and --client belong to --explain".to_owned());
            }
            return Ok(None);
        };
        Ok(Some(Question {
            request_line,
            fields: self.header.clone(),
            client: self.client.unwrap_or(Ipv4Addr::LOCALHOST.into()),
            at: SystemTime::now(),
            now: Instant::now(),
        }))
    }

    /// What a running process is to be asked for.
    fn demand(&self) -> Result<Option<Demand>, String> {
        let Some(word) = self.signal.as_deref() else {
            return Ok(None);
        };
        if self.test || self.show || self.explain.is_some() {
            return Err("-k does not go together with -t, -S or --explain".to_owned());
        }
        Ok(Some(match word {
            // It never leaves the terminal, so it is what is done without -k, too.
            "start" => return Ok(None),
            "stop" => Demand::Stop,
            "graceful" => Demand::Graceful,
            "graceful-stop" => Demand::GracefulStop,
            "restart" => Demand::Restart,
            "upgrade" => Demand::Upgrade,
            _ => {
                return Err(format!(
                    "-k {word:?}: expected start, stop, graceful, graceful-stop, restart or upgrade"
                ));
            }
        }))
    }

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

/// Has the process that runs with this configuration's PidFile do something.
// httpd: -k stop, where nobody runs, is no error, and -k restart starts the server. Here nothing is started, and a script sees
// that nobody was asked.
fn ask(config: &Config, demand: Demand) -> Result<(), String> {
    let Some(path) = &config.pid_file else {
        return Err(
            "-k: the configuration has no PidFile, by which the process is found; add one and start it anew, or ask whoever \
             has started it, such as systemctl"
                .to_owned(),
        );
    };
    let name = path.display();
    let running = match Running::with(path) {
        Ok(Some(running)) => running,
        Ok(None) => return Err(format!("-k: no process is running with PidFile {name}")),
        Err(problem) => return Err(format!("-k: PidFile {name}: {problem}")),
    };
    let pid = running.pid().as_raw_nonzero();
    if demand == Demand::GracefulStop && running.has_terminal() {
        return Err(format!(
            "-k: process {pid} is controlled by a terminal, and so ignores WINCH; use -k stop"
        ));
    }
    running
        .ask(demand)
        .map_err(|error| format!("-k: process {pid} of PidFile {name}: {error}"))
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
                if WITH_VALUE.iter().any(|(short, _)| *short == Some(letter)) {
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

/// Says what came of a check, and gives the exit status.
pub fn judge(outcome: Result<Vec<String>, String>) -> u8 {
    let (lines, status) = match outcome {
        Ok(mut warnings) => {
            warnings.push("Syntax OK".to_owned());
            (warnings, 0)
        }
        Err(problem) => (vec![format!("{NAME}: {problem}")], 1),
    };
    let mut err = io::stderr().lock();
    for line in lines {
        // A standard error that is closed hides nothing but this.
        let _ = writeln!(err, "{line}");
    }
    status
}

fn tls() -> &'static str {
    if cfg!(feature = "tls") {
        "tls by OpenSSL"
    } else {
        "no tls"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/config");

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// What the command decides, says and complains about.
    fn run(arguments: &[&str]) -> (Command, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let command = super::run(&words(arguments), &mut out, &mut err).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (command, text(out), text(err))
    }

    fn config(arguments: &[&str]) -> Config {
        match run(arguments) {
            (Command::Run(config, _) | Command::Check(config, _), _, _) => *config,
            (Command::Exit(_), out, err) => panic!("{out}{err}"),
        }
    }

    #[test]
    fn attached_and_grouped_options_are_taken_apart() {
        for (given, expected) in [
            (
                &["-DFOREGROUND"] as &[&str],
                &["-D", "FOREGROUND"] as &[&str],
            ),
            (&["-f/etc/x"], &["-f", "/etc/x"]),
            (&["-tS"], &["-t", "-S"]),
            (&["-tf", "file"], &["-t", "-f", "file"]),
            (&["-tffile", "-S"], &["-t", "-f", "file", "-S"]),
            (&["--file=a=b"], &["--file", "a=b"]),
            (&["--file="], &["--file", ""]),
            (&["--test"], &["--test"]),
            // A value is a value, whatever it looks like.
            (&["-c", "-tS"], &["-c", "-tS"]),
            (&["--after", "--x=y"], &["--after", "--x=y"]),
            (&["-cListen 1"], &["-c", "Listen 1"]),
            (&["-"], &["-"]),
            (&["-ü"], &["-ü"]),
            (&["-f"], &["-f"]),
        ] {
            assert_eq!(take_apart(&words(given)), words(expected), "{given:?}");
        }
    }

    #[test]
    fn directives_alone_are_a_configuration() {
        let config = config(&[
            "-C",
            "Listen 1",
            "-cProxyPass / ws://b/",
            "-c",
            "Timeout 7",
            "-c",
            "Timeout 8",
        ]);
        assert_eq!(config.listen.len(), 1);
        assert_eq!(config.main.timeout.as_secs(), 8);
    }

    #[test]
    fn the_last_of_several_files_counts() {
        let last = format!("{DATA}/accepted/included.conf");
        let root = format!("ServerRoot {DATA:?}");
        let config = config(&["-f", "/there/is/none", "-f", &last, "-C", &root]);
        assert_eq!(config.main.router.mappings.len(), 5);
    }

    #[test]
    fn names_reach_ifdefine() {
        let config = config(&[
            "-DFOREGROUND",
            "-D",
            "B",
            "-c",
            "Listen 1",
            "-c",
            "<IfDefine B>",
            "-c",
            "Timeout 9",
            "-c",
            "</IfDefine>",
        ]);
        assert_eq!(config.main.timeout.as_secs(), 9);
    }

    #[test]
    fn a_check_goes_on_with_what_the_configuration_names() {
        let (command, out, err) = run(&["-t", "-c", "Listen 1", "-c", "ProxyPass / ws://b/"]);
        assert!(matches!(command, Command::Check(..)));
        assert_eq!((out.as_str(), err.as_str()), ("", ""));
    }

    #[test]
    fn a_check_shows_warnings_and_all_errors() {
        let (command, _, err) = run(&["-t", "-c", "Listen 1"]);
        assert!(matches!(command, Command::Check(..)));
        assert!(err.starts_with("-c: warning: ProxyPass: "));
        let (command, out, err) = run(&["-c", "Listen x", "-c", "Timeout x"]);
        assert!(matches!(command, Command::Exit(1)));
        assert_eq!(out, "");
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), 2, "{err}");
        assert!(lines[0].starts_with("-c:1: Listen: ") && lines[1].starts_with("-c:2: Timeout: "));
    }

    #[test]
    fn the_summary_goes_to_the_standard_output() {
        let (command, out, err) = run(&["-tS", "-c", "Listen 1", "-c", "ProxyPass / ws://b/"]);
        assert!(matches!(command, Command::Exit(0)));
        assert!(out.contains("\n  *:1  [-c:1]\n"), "{out}");
        assert_eq!(err, "");
    }

    #[test]
    fn the_list_has_every_directive() {
        let (command, out, _) = run(&["-L"]);
        assert!(matches!(command, Command::Exit(0)));
        for entry in directives::TABLE {
            let name = entry.name.trim_end_matches('>');
            assert!(
                out.lines()
                    .any(|line| line.starts_with(&format!("{name} "))),
                "{name}"
            );
        }
    }

    #[test]
    fn the_version_is_one_line() {
        let (command, out, _) = run(&["-v"]);
        assert!(matches!(command, Command::Exit(0)));
        assert_eq!(
            out,
            format!("proxy-wstunnel {} ({})\n", env!("CARGO_PKG_VERSION"), tls())
        );
    }

    #[test]
    fn help_is_an_answer_and_a_wrong_option_an_error() {
        for help in ["-h", "--help"] {
            let (command, out, err) = run(&[help]);
            assert!(matches!(command, Command::Exit(0)));
            assert!(out.starts_with("Usage: proxy-wstunnel"), "{out}");
            assert_eq!(err, "");
        }
        for wrong in [
            &["-x"] as &[&str],
            &["operand"],
            &["help"],
            &["--file"],
            &["-f"],
            &["--test=yes"],
        ] {
            let (command, out, err) = run(wrong);
            assert!(matches!(command, Command::Exit(1)), "{wrong:?}");
            assert!(
                err.starts_with("proxy-wstunnel: ") && err.contains("Usage: "),
                "{err}"
            );
            assert_eq!(out, "");
        }
    }
}

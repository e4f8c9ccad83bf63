//! Tunnels that each send their next message when the last came back.

use crate::client::{CHUNK, OPEN_ALL, Pool, TICK, Target};
use crate::histogram::Histogram;
use crate::json::Object;
use crate::pingpong::{PingPong, Pong};
use crate::stream::Beside;
use crate::sys;
use crate::window::Window;
use std::io;

/// `beside`: what one further tunnel asks for, which streams meanwhile in a thread of its own.
pub fn run(target: &Target, conns: usize, size: usize, beside: Option<&str>) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut pool = Pool::new(conns)?;
    pool.open_all(target, &mut buffer, OPEN_ALL)?;
    let beside = beside.map(|path| Beside::start(target, path)).transpose()?;
    let streamed = || beside.as_ref().map_or(0, Beside::moved);
    let mut pingpong = PingPong::new(conns, size);
    let mut events = sys::no_events();
    let (mut histogram, mut streamed_before) = (Histogram::default(), 0);
    let mut window = Window::new(target);
    for index in 0..conns {
        if let Some(conn) = &mut pool.conns[index]
            && let Err(error) = pingpong.send(index, conn)
        {
            pool.fail(index, error);
        }
    }
    while !window.is_over() {
        let count = pool.wait(&mut events, TICK)?;
        if window.step(histogram.total()) {
            streamed_before = streamed();
        }
        for event in &events[..count] {
            let index = event.u64 as usize;
            let Some(conn) = &mut pool.conns[index] else {
                continue;
            };
            let result = match pingpong.receive(index, conn, &mut buffer) {
                Ok(Pong::Waiting) => Ok(()),
                Ok(Pong::Complete(sent)) => {
                    if window.is_open() {
                        histogram.record(sent.elapsed());
                    }
                    pingpong.send(index, conn)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                pool.fail(index, error);
            }
        }
    }
    let seconds = window.seconds();
    let mut result = Object::default()
        .with("units", histogram.total())
        .with("rate", histogram.total() as f64 / seconds)
        .latency(&histogram)
        .with("cpu", window.cpu());
    if let Some(beside) = beside {
        let moved = beside.moved() - streamed_before;
        result = result.with("beside", moved as f64 / seconds / f64::from(1 << 20));
        beside.stop(&mut pool.faults);
    }
    println!("{}", result.with("faults", pool.faults.json()));
    Ok(())
}

//! Sends requests and watches the answers: sockets, tasks, the clock.

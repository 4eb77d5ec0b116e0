package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// server is one process of `moldau server`.
type server struct {
	cmd  *exec.Cmd
	addr string
	done chan struct{} // closed when the process has ended
	err  error         // how; valid after done
}

var serves = regexp.MustCompile(`^moldau serves at (\S+?:\d+)`)

// startServer starts the program and waits until it serves. Its clients are told advertise.
func startServer(dir, advertise string) (*server, error) {
	log, err := os.OpenFile(filepath.Join(dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &server{done: make(chan struct{})}
	s.cmd = exec.Command(filepath.Join(dir, "moldau"), "server", "--listen", "127.0.0.1:0", "--advertise", advertise, "--data", filepath.Join(dir, "data"))
	s.cmd.Stderr = log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	if m := serves.FindStringSubmatch(line); err == nil && m != nil {
		s.addr = m[1]
		return s, nil
	}
	_ = s.kill()
	return nil, fmt.Errorf("the server did not start: it printed %q, then: %v; see %s", line, s.err, log.Name())
}

// kill ends the process with SIGKILL and says if it had ended by itself.
func (s *server) kill() error {
	select {
	case <-s.done:
		return fmt.Errorf("the server ended by itself: %v", s.err)
	default:
	}
	err := s.cmd.Process.Kill()
	<-s.done
	return err
}

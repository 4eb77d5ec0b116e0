package server

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/moldau-stream/moldau/broker/internal/replica"
)

// spanSenderOf gives how to send spans on a connection; nil if that is not possible, as with TLS.
func spanSenderOf(nc net.Conn) spanSender {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return &sendfile{raw: raw}
}

// sendfile is net.TCPConn.ReadFrom without its use of the file's own position, which others read at too. The file is only used
// while it is written, not while the socket is full: it may be closed and renamed meanwhile.
type sendfile struct{ raw syscall.RawConn }

func (t *sendfile) announce(p []byte) (n int, err error) {
	return t.write(func(fd int) (int, error) { return unix.SendmsgN(fd, p, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL) })
}

func (t *sendfile) span(s *replica.Span, from int) (n int, err error) {
	n, err = t.write(func(fd int) (n int, err error) {
		if ferr := s.File(func(f *os.File, pos int64) {
			pos += int64(from)
			n, err = unix.Sendfile(fd, int(f.Fd()), &pos, s.Len()-from)
		}); ferr != nil {
			return 0, ferr
		}
		if n == 0 && err == nil {
			err = io.ErrUnexpectedEOF // the file is shorter than it was
		}
		return n, err
	})
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		err = errNoSendfile
	}
	return n, err
}

// write calls f, again when the socket has room if it had none.
func (t *sendfile) write(f func(fd int) (int, error)) (n int, err error) {
	werr := t.raw.Write(func(fd uintptr) bool {
		for {
			n, err = f(int(fd))
			if err != unix.EINTR {
				break
			}
		}
		n = max(n, 0) // -1 with an error
		return err != unix.EAGAIN
	})
	if werr != nil {
		return 0, werr
	}
	return n, err
}

import ctypes, errno, json, os, signal, socket, ssl, struct, subprocess, sys, threading, time

AWS4, AWS6, WEB = '198.51.100.7', '2001:db8::7', '203.0.113.5'
libc = ctypes.CDLL(None, use_errno=True)


def attempt(what):
    """Its result, 'ok', or the name of its error."""
    try:
        result = what()
        return 'ok' if result is None else result
    except ssl.SSLError as e:
        # Its numbers are OpenSSL's own.
        return f'{type(e).__name__}: {e}'
    except OSError as e:
        return errno.errorcode.get(e.errno, f'{type(e).__name__}: {e}')


def call(number, *args):
    """A bare system call: its error's name, or its result."""
    result = libc.syscall(number, *args)
    return errno.errorcode[ctypes.get_errno()] if result < 0 else result


def who(answer):
    if b'the outside world' in answer:
        return 'world'
    if b'is not signed' in answer or b'Tollgate' in answer:
        return 'gateway'
    return repr(answer[:200])


def talk(sock, name=None, first=None):
    """TLS by hand, so that `first` can send the first bytes in its own way; who answers an unsigned request."""
    context = ssl._create_unverified_context()
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(into, out, server_hostname=name or NAME)
    sock.settimeout(10)
    send = [first or sock.sendall]

    def step(what):
        while True:
            try:
                done, result = True, what()
            except ssl.SSLWantReadError:
                done, result = False, None
            data = out.read()
            if data:
                send[0](data)
                send[0] = sock.sendall
            if done:
                return result
            data = sock.recv(65536)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, 'closed')
            into.write(data)

    step(tls.do_handshake)
    step(lambda: tls.write(f'GET / HTTP/1.1\r\nHost: {name or NAME}\r\nConnection: close\r\n\r\n'.encode()))
    answer = b''
    try:
        while b'world' not in answer and b'signed' not in answer:
            answer += step(lambda: tls.read(65536))
    except (ssl.SSLError, OSError):
        pass
    return who(answer)


def connect(address=None, family=socket.AF_INET, sock=None):
    sock = sock or socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(10)
    sock.connect(address or (AWS4, 443))
    return talk(sock)


def find(*words):
    """Processes whose command lines have all these words, this one not."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            line = open(f'/proc/{pid}/cmdline').read().split('\0')
        except OSError:
            continue
        if int(pid) != os.getpid() and all(any(w in arg for arg in line) for w in words):
            found.append(int(pid))
    return found


def say(**outcomes):
    print(json.dumps(outcomes), flush=True)

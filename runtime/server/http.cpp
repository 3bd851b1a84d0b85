#include "runtime/server/http.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace ingot {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kIdle{30'000};    // between the requests of a connection
constexpr milliseconds kReceive{30'000}; // a whole request
constexpr milliseconds kSend{10'000};    // one piece of a response
constexpr milliseconds kPoll{100};       // how late a shutdown is noticed

thread_local socket_t served = INVALID_SOCKET;

// Waits until the socket is ready for `events`. False after `patience`, or when the connection broke.
bool ready(socket_t socket, short events, milliseconds patience) {
  pollfd wanted = {socket, events, 0};
  int count = 0;
  do {
    count = ::poll(&wanted, 1, static_cast<int>(std::max<milliseconds::rep>(patience.count(), 0)));
  } while (count < 0 && errno == EINTR);
  return count > 0 && (wanted.revents & events);
}

bool hungUp(socket_t socket) {
  pollfd wanted = {socket, POLLRDHUP, 0};
  return ::poll(&wanted, 1, 0) > 0 && (wanted.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

class SocketStream : public httplib::Stream {
public:
  explicit SocketStream(socket_t socket) : handle(socket) {}

  void beginRequest() { deadline = Clock::now() + kReceive; }
  bool hasInput() const { return at < filled; }

  bool is_readable() const override { return hasInput() || ready(handle, POLLIN, left()); }
  bool is_writable() const override { return !hungUp(handle) && ready(handle, POLLOUT, kSend); }
  ssize_t read(char *to, size_t size) override {
    if (!hasInput()) {
      if (!ready(handle, POLLIN, left()))
        return -1;
      ssize_t count = ::recv(handle, buffer.data(), buffer.size(), 0);
      if (count <= 0)
        return count;
      at = 0;
      filled = static_cast<size_t>(count);
    }
    size_t count = std::min(size, filled - at);
    std::memcpy(to, buffer.data() + at, count);
    at += count;
    return static_cast<ssize_t>(count);
  }
  ssize_t write(const char *from, size_t size) override {
    if (!ready(handle, POLLOUT, kSend))
      return -1;
    return ::send(handle, from, size, MSG_NOSIGNAL);
  }
  void get_remote_ip_and_port(std::string &ip, int &port) const override { name(::getpeername, ip, port); }
  void get_local_ip_and_port(std::string &ip, int &port) const override { name(::getsockname, ip, port); }
  socket_t socket() const override { return handle; }

private:
  milliseconds left() const { return std::chrono::duration_cast<milliseconds>(deadline - Clock::now()); }
  void name(int (*which)(int, sockaddr *, socklen_t *), std::string &ip, int &port) const {
    sockaddr_storage address = {};
    socklen_t length = sizeof address;
    auto *generic = reinterpret_cast<sockaddr *>(&address);
    std::array<char, NI_MAXHOST> host = {};
    std::array<char, NI_MAXSERV> service = {};
    if (which(handle, generic, &length) != 0 || ::getnameinfo(generic, length, host.data(), host.size(), service.data(),
                                                              service.size(), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
      return;
    ip = host.data();
    port = static_cast<int>(std::strtol(service.data(), nullptr, 10)); // NI_NUMERICSERV: digits
  }

  socket_t handle;
  Clock::time_point deadline;
  std::array<char, 8192> buffer = {};
  size_t at = 0, filled = 0;
};

} // namespace

HttpServer::HttpServer(size_t threads, size_t maxBodyBytes) {
  new_task_queue = [threads] { return new httplib::ThreadPool(threads); };
  set_payload_max_length(maxBodyBytes);
  // The library's own options let two servers share a port unnoticed.
  set_socket_options([](socket_t socket) {
    int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
}

bool HttpServer::clientIsGone() { return served != INVALID_SOCKET && hungUp(served); }

bool HttpServer::waitForRequest(socket_t socket) const {
  for (auto until = Clock::now() + kIdle; Clock::now() < until;) {
    if (svr_sock_ == INVALID_SOCKET)
      return false;
    if (ready(socket, POLLIN, kPoll))
      return true;
    if (hungUp(socket))
      return false;
  }
  return false;
}

bool HttpServer::process_and_close_socket(socket_t socket) {
  int yes = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  SocketStream stream(socket);
  served = socket;
  bool good = true, closed = false;
  while (good && !closed && (stream.hasInput() || waitForRequest(socket))) {
    stream.beginRequest();
    good = process_request(stream, /*close_connection=*/svr_sock_ == INVALID_SOCKET, closed, nullptr);
  }
  served = INVALID_SOCKET;
  ::shutdown(socket, SHUT_RDWR);
  ::close(socket);
  return good;
}

} // namespace ingot

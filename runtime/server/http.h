// cpp-httplib's server with one thing more: a handler can ask whether its client is still there, which decides whether
// the work for it goes on. Reading and writing have deadlines, so that a client cannot hold a thread by being slow.
#pragma once

#include <cstddef>

// All of Debian's build flags of the library, with which its classes have their layout.
#include <httplib.h>

namespace ingot {

class HttpServer : public httplib::Server {
public:
  // `threads`: connections that are served at the same time.
  HttpServer(size_t threads, size_t maxBodyBytes);

  // Of the connection that this thread serves.
  static bool clientIsGone();

private:
  bool process_and_close_socket(socket_t socket) override;
  bool waitForRequest(socket_t socket) const;
};

} // namespace ingot

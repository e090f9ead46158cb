#pragma once
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gato/core/error.h"
#include "gato/train/communicator.h"

/// Ranks as threads of one process: everything of an exchange but the processes.
namespace gato::test {

/// LibTorch's record of past operations is one map of the process, which groups in several threads fill without a lock.
inline const int no_flight_recorder = setenv("TORCH_FR_BUFFER_SIZE", "0", 1);

/// A TCP port of this host that was free a moment ago.
inline int free_port() {
  const int socket_number = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  const bool known =
      bind(socket_number, generic, sizeof(address)) == 0 && getsockname(socket_number, generic, &length) == 0;
  close(socket_number);
  GATO_CHECK(known, "no free port");
  return ntohs(address.sin_port);
}

inline Launch launch_of(int64_t rank, int64_t size, int port) {
  Launch launch;
  launch.launcher = "env";
  launch.rank = launch.local_rank = rank;
  launch.size = launch.local_size = size;
  launch.master_address = "127.0.0.1";
  launch.master_port = port;
  return launch;
}

/// Calls work(rank) in one thread per rank; returns what each of them threw ("" for nothing).
inline std::vector<std::string> in_threads(int64_t size, const std::function<void(int64_t)>& work) {
  std::vector<std::string> errors(static_cast<size_t>(size));
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        work(rank);
      } catch (const std::exception& error) {
        errors[static_cast<size_t>(rank)] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return errors;
}

/// The same with a communicator of all ranks; fails the test when one of them throws.
inline void with_ranks(int64_t size, const std::function<void(const std::shared_ptr<train::Communicator>&)>& work,
                       const train::CommunicatorOptions& options = {}) {
  const int port = free_port();
  const auto errors = in_threads(
      size, [&](int64_t rank) { work(train::Communicator::connect(launch_of(rank, size, port), at::kCPU, options)); });
  for (size_t rank = 0; rank < errors.size(); ++rank) EXPECT_EQ(errors[rank], "") << "rank " << rank;
}

}  // namespace gato::test

// Threads that share the parts of one job at a time.
//
// Whoever comes takes the next part, so a thread that the system has put aside holds up nothing but the part it took;
// between jobs the threads spin for some microseconds, then sleep. The caller works too.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
inline void relax() { _mm_pause(); }
#else
inline void relax() { std::this_thread::yield(); }
#endif

class Team {
public:
    explicit Team(int size) {
        for (int i = 1; i < size; i++) helpers_.emplace_back([this] { help(); });
    }

    ~Team() {
        ending_.store(true);
        bell_.fetch_add(1);
        bell_.notify_all();
        for (auto& helper : helpers_) helper.join();
    }

    int size() const { return int(helpers_.size()) + 1; }

    // Calls part(i) for every i in [0, count), in any order, by several threads; returns when all are done.
    template <class Part> void each(int count, const Part& part) {
        if (count <= 1 || helpers_.empty()) {
            for (int i = 0; i < count; i++) part(i);
            return;
        }
        epoch_++;
        Job& job = jobs_[epoch_ & 1];
        job.run = [](const void* context, int i) { (*static_cast<const Part*>(context))(i); };
        job.context = &part;
        done_.store(0, std::memory_order_relaxed);
        ticket_.store(epoch_ << 40 | uint64_t(count) << 20);
        if (asleep_.load() > 0) {
            bell_.fetch_add(1);
            bell_.notify_all();
        }
        work();
        for (int spins = 0; done_.load(std::memory_order_acquire) != count; spins++) {
            if (spins < kPatience) relax();
            else std::this_thread::yield();
        }
    }

private:
    struct Job {
        void (*run)(const void*, int);
        const void* context;
    };
    static constexpr int kPatience = 2000;
    static constexpr uint64_t kMask = (1 << 20) - 1;

    // A ticket is [epoch 24 | count 20 | next 20]; a part that was taken keeps its job from ending, so that the job's
    // description, of which there are two in turn, can be read safely.
    bool open(uint64_t ticket) const { return (ticket & kMask) < (ticket >> 20 & kMask); }

    void work() {
        while (open(ticket_.load(std::memory_order_relaxed))) {
            uint64_t mine = ticket_.fetch_add(1);
            if (!open(mine)) return;
            const Job& job = jobs_[mine >> 40 & 1];
            job.run(job.context, int(mine & kMask));
            done_.fetch_add(1, std::memory_order_release);
        }
    }

    void help() {
        for (int spins = 0; !ending_.load(std::memory_order_relaxed); spins++) {
            if (open(ticket_.load(std::memory_order_relaxed))) {
                work();
                spins = 0;
            } else if (spins < kPatience) {
                relax();
            } else {
                sleep();
                spins = 0;
            }
        }
    }

    void sleep() {
        uint32_t heard = bell_.load();
        asleep_.fetch_add(1);
        if (!open(ticket_.load()) && !ending_.load()) bell_.wait(heard);
        asleep_.fetch_sub(1);
    }

    std::vector<std::thread> helpers_;
    Job jobs_[2] = {};
    uint64_t epoch_ = 0;
    alignas(64) std::atomic<uint64_t> ticket_{0};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<int> asleep_{0};
    std::atomic<uint32_t> bell_{0};
    std::atomic<bool> ending_{false};
};
